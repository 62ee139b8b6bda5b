// SHA-256 as FIPS 180-4 defines it.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t size;       // bytes taken so far
    uint8_t block[64];   // the size % 64 bytes that do not fill a block yet
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t size);
void sha256_end(struct sha256 *hash, uint8_t digest[32]);
