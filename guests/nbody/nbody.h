// The Sun and the four giant planets under Newton's law of gravity; lengths in AU, time in years, masses in solar masses.
#pragma once

// Puts every planet on a circular, inclined orbit, a quarter turn apart, with no total momentum.
void nbody_begin(void);
// Moves everything by `steps` steps of `years` each.
void nbody_advance(unsigned steps, double years);
// Returns the total energy, which a good integration keeps nearly constant.
double nbody_energy(void);
