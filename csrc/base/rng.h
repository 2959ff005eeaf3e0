/* rng.h: counter-based random numbers, Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", 2011). key = seed; counter of block b = (b low, b high, step, stream). */
#ifndef FBP_RNG_H
#define FBP_RNG_H

#include <stdint.h>

void fbp_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t block, uint32_t word[4]);
/* Two words as a double in [0, 1) with 53 random bits. */
double fbp_uniform(uint32_t a, uint32_t b);

#endif
