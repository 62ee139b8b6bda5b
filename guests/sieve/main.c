// sieve: counts the primes below N.
#include "sieve.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    if (n > SIEVE_MAX) {
        fprintf(stderr, "sieve: at most %u\n", SIEVE_MAX);
        return 1;
    }
    uint32_t last, count = sieve_count((uint32_t)n, &last);
    printf("%lu primes below %lu, the last is %lu\n", (unsigned long)count, n, (unsigned long)last);
    return 0;
}
