// nbody: integrates the outer solar system for N steps and prints the energy before and after.
#include "nbody.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    unsigned steps = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
    nbody_begin();
    printf("%.9f\n", nbody_energy());
    nbody_advance(steps, 0.01);
    printf("%.9f\n", nbody_energy());
    return 0;
}
