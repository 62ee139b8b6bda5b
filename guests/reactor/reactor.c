// reactor: a library rather than a program. `_initialize` runs its constructor, then its exports may be called.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))

static int initialised = 0;

__attribute__((constructor)) static void initialise(void) { initialised++; }

// How often the constructor ran: 1 when the embedder does its part.
EXPORT(initialised) int get_initialised(void) { return initialised; }

EXPORT(allocate) void *allocate(size_t size) { return malloc(size); }

EXPORT(release) void release(void *memory) { free(memory); }

// Reverses the text in place.
EXPORT(reverse) void reverse(char *text, size_t size) {
    for (size_t i = 0; i < size / 2; i++) {
        char other = text[size - 1 - i];
        text[size - 1 - i] = text[i];
        text[i] = other;
    }
}

// Says something on stdout, at once.
EXPORT(say) int say(int number) {
    printf("number %d\n", number);
    return fflush(stdout);
}
