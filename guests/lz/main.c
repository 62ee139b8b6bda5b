// lz: compresses or restores a file, or stdin to stdout.
#include "lz.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ORIGINAL (8u << 20)

struct buffer {
    uint8_t *data;
    size_t size;
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "lz: %s: %s\n", what, why);
    exit(1);
}

static void *room_for(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (memory == NULL)
        fail("memory", "too large");
    return memory;
}

static struct buffer read_all(const char *name, size_t most) {
    FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
    if (in == NULL)
        fail(name, strerror(errno));
    struct buffer all = {room_for(65536), 0};
    size_t room = 65536, got;
    while ((got = fread(all.data + all.size, 1, room - all.size, in)) > 0) {
        all.size += got;
        if (all.size > most)
            fail(name, "too large");
        if (all.size == room && (all.data = realloc(all.data, room *= 2)) == NULL)
            fail("memory", "too large");
    }
    if (ferror(in))
        fail(name, strerror(errno));
    fclose(in);
    return all;
}

static void write_all(const char *name, struct buffer all) {
    FILE *out = strcmp(name, "-") == 0 ? stdout : fopen(name, "wb");
    if (out == NULL)
        fail(name, strerror(errno));
    if (fwrite(all.data, 1, all.size, out) != all.size || fclose(out) != 0)
        fail(name, strerror(errno));
}

static struct buffer compressed(struct buffer in) {
    struct buffer out = {room_for(LZ_BOUND(in.size)), 0};
    out.size = lz_compress(in.data, in.size, out.data);
    return out;
}

static struct buffer restored(struct buffer in) {
    int64_t size = lz_original_size(in.data, in.size);
    if (size < 0 || size > MAX_ORIGINAL)
        fail("input", "not compressed by lz");
    struct buffer out = {room_for((size_t)size), (size_t)size};
    if (lz_decompress(in.data, in.size, out.data, out.size) != 0)
        fail("input", "damaged");
    return out;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4 || (strcmp(argv[1], "c") != 0 && strcmp(argv[1], "d") != 0)) {
        fputs("usage: lz c|d [IN [OUT]]\n", stderr);
        return 2;
    }
    int compress = argv[1][0] == 'c';
    struct buffer in = read_all(argc > 2 ? argv[2] : "-", compress ? MAX_ORIGINAL : LZ_BOUND(MAX_ORIGINAL));
    write_all(argc > 3 ? argv[3] : "-", compress ? compressed(in) : restored(in));
    return 0;
}
