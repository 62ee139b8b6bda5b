// LZSS over a whole buffer. The format: the bytes "LZ1\n", the size of the original in 4 bytes, least significant first,
// then groups of one flag byte and eight items, lowest bit first. Bit 0: a literal byte. Bit 1: a copy, two bytes with
// 12 bits of distance minus 1 and 4 bits of length minus LZ_MIN.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define LZ_HEADER 8
#define LZ_MIN 3
#define LZ_MAX (LZ_MIN + 15)
#define LZ_WINDOW 4096

// The most that `size` bytes can become: all literals.
#define LZ_BOUND(size) (LZ_HEADER + (size) + ((size) + 7) / 8)

// Compresses `size` bytes into `out`, which has room for LZ_BOUND(size); returns the compressed size.
size_t lz_compress(const uint8_t *in, size_t size, uint8_t *out);
// Returns the size of the original, or -1 when `in` does not begin as compressed data does.
int64_t lz_original_size(const uint8_t *in, size_t size);
// Restores exactly `room` bytes into `out`; returns 0, or -1 for data that was not made by lz_compress.
int lz_decompress(const uint8_t *in, size_t size, uint8_t *out, size_t room);
