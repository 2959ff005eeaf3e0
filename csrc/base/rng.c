#include "rng.h"

#include "../fbp.h"

void fbp_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t block, uint32_t word[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = step, c3 = stream;
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

double fbp_uniform(uint32_t a, uint32_t b)
{
    return ((double)(a >> 5) * 67108864.0 + (double)(b >> 6)) * (1.0 / 9007199254740992.0);
}

/* Fisher-Yates from the end: element i changes places with element floor(u_i (i + 1)). */
void fbp_shuffle(uint64_t seed, uint32_t stream, uint32_t step, int64_t *order, int64_t from, int64_t to)
{
    uint32_t word[4] = {0};
    for (int64_t i = from - 1, block = -1; i >= to; i--) {
        if (i / 2 != block) fbp_philox(seed, stream, step, (uint64_t)(block = i / 2), word);
        const double u = i % 2 ? fbp_uniform(word[2], word[3]) : fbp_uniform(word[0], word[1]);
        const int64_t j = (int64_t)(u * (double)(i + 1));
        const int64_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}
