// sha256: prints the SHA-256 digest of files, or of stdin, as sha256sum does.
#include "sha256.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int digest(FILE *in, const char *name) {
    static uint8_t buffer[65536];
    struct sha256 hash;
    uint8_t result[32];
    size_t got;
    sha256_begin(&hash);
    while ((got = fread(buffer, 1, sizeof buffer, in)) > 0)
        sha256_add(&hash, buffer, got);
    if (ferror(in)) {
        fprintf(stderr, "sha256: %s: %s\n", name, strerror(errno));
        return 1;
    }
    sha256_end(&hash, result);
    for (int i = 0; i < 32; i++)
        printf("%02x", result[i]);
    printf("  %s\n", name);
    return 0;
}

static int digest_file(const char *name) {
    FILE *in = fopen(name, "rb");
    if (in == NULL) {
        fprintf(stderr, "sha256: %s: %s\n", name, strerror(errno));
        return 1;
    }
    int failed = digest(in, name);
    fclose(in);
    return failed;
}

int main(int argc, char **argv) {
    int failed = 0;
    if (argc < 2)
        failed = digest(stdin, "-");
    for (int i = 1; i < argc; i++)
        failed |= digest_file(argv[i]);
    return failed;
}
