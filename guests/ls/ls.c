// ls: lists directories recursively, each entry with its type and size, in the order of the names' bytes.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 32
#define TARGET_MAX 4096

struct names {
    char **items;
    size_t count, room;
};

static int failed = 0;

static void complain(const char *path) {
    fprintf(stderr, "ls: %s: %s\n", path, strerror(errno));
    failed = 1;
}

static void *need(void *memory) {
    if (memory == NULL) {
        fputs("ls: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

static void append(struct names *names, const char *name) {
    if (names->count == names->room) {
        names->room = names->room ? 2 * names->room : 16;
        names->items = need(realloc(names->items, names->room * sizeof *names->items));
    }
    names->items[names->count++] = need(strdup(name));
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(const char *path, struct names *names) {
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            append(names, entry->d_name);
    int error = errno;
    closedir(directory);
    errno = error;
    if (error != 0)
        return -1;
    if (names->count > 1)
        qsort(names->items, names->count, sizeof *names->items, by_name);
    return 0;
}

static void list(const char *path, int depth);

static void show_link(const char *path) {
    static char target[TARGET_MAX];  // not on the stack, which is small
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size < 0) {
        printf("l %9s %s -> ?\n", "-", path);
        return;
    }
    target[size] = '\0';
    printf("l %9s %s -> %s\n", "-", path, target);
}

static void show(const char *path, int depth) {
    struct stat info;
    if (lstat(path, &info) < 0) {
        complain(path);
    } else if (S_ISDIR(info.st_mode)) {
        printf("d %9s %s/\n", "-", path);
        list(path, depth + 1);
    } else if (S_ISLNK(info.st_mode)) {
        show_link(path);
    } else if (S_ISREG(info.st_mode)) {
        printf("f %9lld %s\n", (long long)info.st_size, path);
    } else {
        printf("? %9s %s\n", "-", path);
    }
}

static char *join(const char *directory, const char *name) {
    size_t room = strlen(directory) + strlen(name) + 2;
    char *path = need(malloc(room));
    if (strcmp(directory, ".") == 0)
        snprintf(path, room, "%s", name);
    else
        snprintf(path, room, "%s%s%s", directory, directory[strlen(directory) - 1] == '/' ? "" : "/", name);
    return path;
}

static void list(const char *path, int depth) {
    struct names names = {0};
    if (depth > MAX_DEPTH) {
        errno = ELOOP;
        complain(path);
        return;
    }
    if (read_names(path, &names) < 0)
        complain(path);
    for (size_t i = 0; i < names.count; i++) {
        char *child = join(path, names.items[i]);
        show(child, depth);
        free(child);
        free(names.items[i]);
    }
    free(names.items);
}

int main(int argc, char **argv) {
    if (argc < 2)
        list(".", 0);
    for (int i = 1; i < argc; i++)
        list(argv[i], 0);
    return failed;
}
