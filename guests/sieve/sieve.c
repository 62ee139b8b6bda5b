#include "sieve.h"

static uint8_t composite[SIEVE_MAX / 2];  // [i] stands for the odd number 2 i + 1

static void strike(uint32_t prime, uint32_t half) {
    for (uint32_t i = prime * prime / 2; i < half; i += prime)
        composite[i] = 1;
}

uint32_t sieve_count(uint32_t n, uint32_t *last) {
    if (n > SIEVE_MAX)
        n = SIEVE_MAX;
    uint32_t half = n / 2, count = n > 2;
    *last = n > 2 ? 2 : 0;
    for (uint32_t i = 0; i < half; i++)
        composite[i] = 0;
    for (uint32_t i = 1; i < half; i++) {
        if (composite[i])
            continue;
        uint32_t prime = 2 * i + 1;
        count++;
        *last = prime;
        if (prime <= 3162)  // the square root of SIEVE_MAX: beyond it the square would be out of range
            strike(prime, half);
    }
    return count;
}
