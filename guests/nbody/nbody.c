#include "nbody.h"

#define BODIES 5
#define G 39.47841760435743  // 4 π²: the gravitational constant in these units, by Kepler's third law

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static struct body bodies[BODIES];

// Distance from the Sun, mass, and the cosine and sine of the inclination to the plane x, y.
static const struct {
    double radius, mass, cosine, sine;
} planets[BODIES - 1] = {
    {5.2044, 9.5479e-4, 0.9997, 0.02449},
    {9.5826, 2.8588e-4, 0.9990, 0.04471},
    {19.2184, 4.3662e-5, 0.9999, 0.01414},
    {30.1104, 5.1514e-5, 0.9995, 0.03162},
};

static double root(double x) { return __builtin_sqrt(x); }

static struct body circular(int planet) {
    static const double turn[5] = {1, 0, -1, 0, 1};  // the cosine of quarter turns; one further on, minus the sine
    double r = planets[planet].radius, v = root(G / r), c = planets[planet].cosine, s = planets[planet].sine;
    double along = turn[planet], across = -turn[planet + 1];
    return (struct body){
        .x = r * along, .y = r * across * c, .z = r * across * s,
        .vx = -v * across, .vy = v * along * c, .vz = v * along * s,
        .mass = planets[planet].mass,
    };
}

void nbody_begin(void) {
    struct body sun = {.mass = 1};
    for (int i = 1; i < BODIES; i++) {
        struct body *planet = &bodies[i];
        *planet = circular(i - 1);
        sun.vx -= planet->vx * planet->mass;
        sun.vy -= planet->vy * planet->mass;
        sun.vz -= planet->vz * planet->mass;
    }
    bodies[0] = sun;
}

// Changes the velocities of both bodies by their attraction over a step.
static void attract(struct body *a, struct body *b, double years) {
    double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
    double square = dx * dx + dy * dy + dz * dz;
    double pull = G * years / (square * root(square));
    a->vx -= dx * b->mass * pull;
    a->vy -= dy * b->mass * pull;
    a->vz -= dz * b->mass * pull;
    b->vx += dx * a->mass * pull;
    b->vy += dy * a->mass * pull;
    b->vz += dz * a->mass * pull;
}

static void step(double years) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++)
            attract(&bodies[i], &bodies[j], years);
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += years * bodies[i].vx;
        bodies[i].y += years * bodies[i].vy;
        bodies[i].z += years * bodies[i].vz;
    }
}

void nbody_advance(unsigned steps, double years) {
    while (steps-- > 0)
        step(years);
}

double nbody_energy(void) {
    double energy = 0;
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        energy += a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz) / 2;
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            energy -= G * a->mass * b->mass / root(dx * dx + dy * dy + dz * dz);
        }
    }
    return energy;
}
