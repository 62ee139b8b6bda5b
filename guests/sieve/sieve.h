// The sieve of Eratosthenes over odd numbers.
#pragma once
#include <stdint.h>

#define SIEVE_MAX 10000000u

// Returns how many primes are below n, which is at most SIEVE_MAX; *last is the greatest of them, or 0.
uint32_t sieve_count(uint32_t n, uint32_t *last);
