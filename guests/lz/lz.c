#include "lz.h"

#define HASH_BITS 12
#define MAX_TRIES 32

// Chains of earlier places with the same three bytes, newest first; -1 ends one.
static int32_t newest[1 << HASH_BITS];
static int32_t older[LZ_WINDOW];

static uint32_t hash(const uint8_t *p) {
    uint32_t three = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    return three * 2654435761u >> (32 - HASH_BITS);
}

static void remember(const uint8_t *in, size_t size, size_t at) {
    if (at + LZ_MIN > size)
        return;
    uint32_t slot = hash(in + at);
    older[at % LZ_WINDOW] = newest[slot];
    newest[slot] = (int32_t)at;
}

static size_t common(const uint8_t *a, const uint8_t *b, size_t most) {
    size_t n = 0;
    while (n < most && a[n] == b[n])
        n++;
    return n;
}

// Finds the longest earlier match of what stands at `at`; 0 when none is worth a copy.
static size_t longest(const uint8_t *in, size_t size, size_t at, size_t *distance) {
    size_t best = LZ_MIN - 1, most = size - at < LZ_MAX ? size - at : LZ_MAX;
    if (most < LZ_MIN)
        return 0;
    int32_t place = newest[hash(in + at)];
    for (int tries = 0; tries < MAX_TRIES && place >= 0 && at - (size_t)place <= LZ_WINDOW; tries++) {
        size_t n = common(in + place, in + at, most);
        if (n > best) {
            best = n;
            *distance = at - (size_t)place;
        }
        place = older[(size_t)place % LZ_WINDOW];
    }
    return best < LZ_MIN ? 0 : best;
}

static uint8_t *header(uint8_t *out, size_t size) {
    const uint8_t start[4] = {'L', 'Z', '1', '\n'};
    for (int i = 0; i < 4; i++) {
        out[i] = start[i];
        out[4 + i] = (uint8_t)(size >> 8 * i);
    }
    return out + LZ_HEADER;
}

size_t lz_compress(const uint8_t *in, size_t size, uint8_t *out) {
    uint8_t *next = header(out, size), *flags = next;
    size_t at = 0;
    int items = 8;
    for (int i = 0; i < 1 << HASH_BITS; i++)
        newest[i] = -1;
    while (at < size) {
        size_t distance = 0, length = longest(in, size, at, &distance);
        if (items == 8) {
            flags = next++;
            *flags = 0;
            items = 0;
        }
        if (length == 0) {
            *next++ = in[at];
            length = 1;
        } else {
            *flags |= (uint8_t)(1 << items);
            *next++ = (uint8_t)(distance - 1);
            *next++ = (uint8_t)((distance - 1) >> 8 << 4 | (length - LZ_MIN));
        }
        items++;
        for (size_t end = at + length; at < end; at++)
            remember(in, size, at);
    }
    return (size_t)(next - out);
}

int64_t lz_original_size(const uint8_t *in, size_t size) {
    if (size < LZ_HEADER || in[0] != 'L' || in[1] != 'Z' || in[2] != '1' || in[3] != '\n')
        return -1;
    return (int64_t)in[4] | (int64_t)in[5] << 8 | (int64_t)in[6] << 16 | (int64_t)in[7] << 24;
}

int lz_decompress(const uint8_t *in, size_t size, uint8_t *out, size_t room) {
    size_t next = LZ_HEADER, at = 0;
    int flags = 0, items = 8;
    while (at < room) {
        if (items == 8) {
            if (next >= size)
                return -1;
            flags = in[next++];
            items = 0;
        }
        if (flags >> items++ & 1) {
            if (next + 2 > size)
                return -1;
            size_t distance = (in[next] | (size_t)(in[next + 1] >> 4) << 8) + 1;
            size_t length = (in[next + 1] & 15u) + LZ_MIN;
            next += 2;
            if (distance > at || length > room - at)
                return -1;
            for (; length > 0; length--, at++)
                out[at] = out[at - distance];
        } else {
            if (next >= size)
                return -1;
            out[at++] = in[next++];
        }
    }
    return next == size ? 0 : -1;
}
