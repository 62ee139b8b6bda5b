// cat: copies files, or stdin, to stdout or to the file after -o.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char buffer[65536];

static int complain(const char *name) {
    fprintf(stderr, "cat: %s: %s\n", name, strerror(errno));
    return 1;
}

static int write_all(int out, const char *data, size_t size) {
    while (size > 0) {
        ssize_t taken = write(out, data, size);
        if (taken < 0)
            return -1;
        data += taken;
        size -= (size_t)taken;
    }
    return 0;
}

static int copy(int in, const char *name, int out) {
    for (;;) {
        ssize_t got = read(in, buffer, sizeof buffer);
        if (got < 0)
            return complain(name);
        if (got == 0)
            return 0;
        if (write_all(out, buffer, (size_t)got) < 0)
            return complain("output");
    }
}

static int copy_file(const char *name, int out) {
    if (strcmp(name, "-") == 0)
        return copy(0, "stdin", out);
    int in = open(name, O_RDONLY);
    if (in < 0)
        return complain(name);
    int failed = copy(in, name, out);
    close(in);
    return failed;
}

int main(int argc, char **argv) {
    int out = 1, first = 1, failed = 0;
    if (argc > 2 && strcmp(argv[1], "-o") == 0) {
        out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (out < 0)
            return complain(argv[2]);
        first = 3;
    }
    if (first == argc)
        failed = copy(0, "stdin", out);
    for (int i = first; i < argc; i++)
        failed |= copy_file(argv[i], out);
    if (close(out) < 0)
        return complain("output");
    return failed;
}
