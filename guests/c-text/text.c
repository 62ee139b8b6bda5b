/* A component by hand: the names and the memory are those of the canonical ABI (component embed --dummy shows them). */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(name)))

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    (void)align;
    return new_size ? realloc(old, new_size) : (void *)align;
}

/* What cabi_realloc gave for arguments is the callee's; of nothing it gave nothing. */
static void release(const void *given, size_t size) {
    if (size) {
        free((void *)given);
    }
}

typedef struct {
    uint32_t bytes, words, lines;
} counts_t;

static counts_t counts;

EXPORT("aegis:c-text/counting@1.0.0#count")
counts_t *count(const char *text, size_t size) {
    int inside = 0;
    counts = (counts_t){.bytes = (uint32_t)size};
    for (size_t n = 0; n < size; n++) {
        int space = text[n] == ' ' || text[n] == '\n' || text[n] == '\t';
        counts.words += !space && !inside;
        counts.lines += text[n] == '\n';
        inside = !space;
    }
    release(text, size);
    return &counts;
}

typedef struct {
    uint8_t is_err;
    union {
        struct {
            char *text;
            size_t size;
        } ok;
        uint32_t err;
    };
} reversed_t;

static reversed_t reversed;

EXPORT("aegis:c-text/counting@1.0.0#reverse")
reversed_t *reverse(char *text, size_t size) {
    for (size_t n = 0; n < size; n++) {
        if ((unsigned char)text[n] > 0x7f) {
            reversed = (reversed_t){.is_err = 1, .err = (uint32_t)n};
            release(text, size);
            return &reversed;
        }
    }
    for (size_t n = 0; n < size / 2; n++) {
        char kept = text[n];
        text[n] = text[size - 1 - n];
        text[size - 1 - n] = kept;
    }
    reversed = (reversed_t){.is_err = 0, .ok = {text, size}};
    return &reversed;
}

/* Called when the caller has read what reverse returned. */
EXPORT("cabi_post_aegis:c-text/counting@1.0.0#reverse")
void reverse_read(const reversed_t *result) {
    if (!result->is_err) {
        release(result->ok.text, result->ok.size);
    }
}

EXPORT("aegis:c-text/counting@1.0.0#sum")
int64_t sum(const int64_t *numbers, size_t count) {
    uint64_t total = 0;
    for (size_t n = 0; n < count; n++) {
        total += (uint64_t)numbers[n];
    }
    release(numbers, count);
    return (int64_t)total;
}
