// bench: the work loops of four programs as plain exports, with no imports, for timing.
#include "../lz/lz.h"
#include "../nbody/nbody.h"
#include "../sha256/sha256.h"
#include "../sieve/sieve.h"

#define EXPORT(name) __attribute__((export_name(#name)))
#define TEXT_MAX (1u << 20)

static uint8_t text[TEXT_MAX], packed[LZ_BOUND(TEXT_MAX)], unpacked[TEXT_MAX];

// Fills `text` with what a linear congruential generator gives, repetitive enough to be compressed.
static void fill(uint32_t size) {
    uint32_t state = 1;
    for (uint32_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        text[i] = (uint8_t)('a' + (state >> 28) % 8);
    }
}

// Hashes n KiB; returns the first four bytes of the digest.
EXPORT(sha256_bench) uint32_t sha256_bench(uint32_t n) {
    struct sha256 hash;
    uint8_t digest[32];
    fill(1024);
    sha256_begin(&hash);
    for (uint32_t i = 0; i < n; i++)
        sha256_add(&hash, text, 1024);
    sha256_end(&hash, digest);
    return (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 | (uint32_t)digest[2] << 8 | digest[3];
}

// Integrates n steps of 0.01 years; returns the total energy.
EXPORT(nbody) double nbody(uint32_t n) {
    nbody_begin();
    nbody_advance(n, 0.01);
    return nbody_energy();
}

// Returns how many primes are below n, at most 10 000 000.
EXPORT(sieve) uint32_t sieve(uint32_t n) {
    uint32_t last;
    return sieve_count(n, &last);
}

// Compresses and restores n bytes, at most 1 MiB; returns the compressed size, or 0 when the round trip fails.
EXPORT(lz_bench) uint32_t lz_bench(uint32_t n) {
    if (n > TEXT_MAX)
        n = TEXT_MAX;
    fill(n);
    size_t size = lz_compress(text, n, packed);
    if (lz_decompress(packed, size, unpacked, n) != 0)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (text[i] != unpacked[i])
            return 0;
    return (uint32_t)size;
}
