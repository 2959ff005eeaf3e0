/* dropout.h: inverted dropout with a mask that depends on the place of an element alone. Word i of the Philox stream (see
 * base/rng.h) belongs to element i of the batch, counted row by row: kept where it is at least `limit`, and then multiplied. */
#ifndef FBP_DROPOUT_H
#define FBP_DROPOUT_H

#include "kernels.h"
#include "reduce.h"

#define PHILOX_LANES (VBYTES / 8)                       /* blocks side by side in a register, 64 bits for each of their words */
#define PHILOX_GROUPS (VBYTES == 64 ? 4 : 2)            /* registers that take turns: as many as there is room for */
#define PHILOX_WORDS (4 * PHILOX_LANES * PHILOX_GROUPS) /* at a time */

/* Words 4 first .. 4 first + PHILOX_WORDS of the stream: those of as many blocks as there are lanes in the groups. Of the 64 bits of a
 * word, the lower half counts. Lanes 0, 2, .. hold the first half of a group's blocks, 1, 3, .. the second: so words 0, 1 and
 * words 2, 3 of the blocks lie in order when the even lanes are put together, then the odd ones. */
INLINE void philox_words(const struct fbp_dropout *f, uint64_t first, uint32_t *word)
{
    vwide c[PHILOX_GROUPS][4];
    uint32_t k0 = (uint32_t)f->seed, k1 = (uint32_t)(f->seed >> 32);
    vwide blocks;
    UNROLL for (int l = 0; l < PHILOX_LANES; l++) blocks[l] = (uint64_t)(l % 2 * (PHILOX_LANES / 2) + l / 2);
    blocks += first;
    UNROLL for (int g = 0; g < PHILOX_GROUPS; g++) {
        c[g][0] = blocks + (uint64_t)(g * PHILOX_LANES);
        c[g][1] = c[g][0] >> 32, c[g][2] = (uint64_t)f->step | (vwide){0}, c[g][3] = (uint64_t)f->stream | (vwide){0};
    }
    UNROLL for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        UNROLL for (int g = 0; g < PHILOX_GROUPS; g++) {
            const vwide p0 = vmul_lower(c[g][0], 0xD2511F53u | (vwide){0}), p1 = vmul_lower(c[g][2], 0xCD9E8D57u | (vwide){0});
            c[g][0] = (p1 >> 32) ^ c[g][1] ^ k0, c[g][2] = (p0 >> 32) ^ c[g][3] ^ k1;
            c[g][1] = p1, c[g][3] = p0;
        }
    UNROLL for (int g = 0; g < PHILOX_GROUPS; g++) {
        const vwide lower = (c[g][0] & 0xffffffffu) | c[g][1] << 32, upper = (c[g][2] & 0xffffffffu) | c[g][3] << 32;
        const vwide even = veven(lower, upper), odd = vodd(lower, upper);
        memcpy(word + 4 * PHILOX_LANES * g, &even, VBYTES);
        memcpy(word + 4 * PHILOX_LANES * g + 2 * PHILOX_LANES, &odd, VBYTES);
    }
}

/* kept = 0 or 1 / (1 - rate), c = x kept, for m rows of n, the first of which is row `first` of the batch. */
static void dropout(const struct fbp_dropout *f)
{
    typedef uint32_t words __attribute__((vector_size(VL * sizeof(uint32_t))));
    uint32_t word[PHILOX_WORDS + VL] = {0};         /* a register may begin with the last of them */
    uint64_t at = 0, end = 0;                       /* elements whose words are there */
    const vuint factor = vbits(vset1((real)(1 / (1 - f->rate))));
    for (size_t i = 0; i < f->m; i++) {
        const real *x = f->x[i];
        real *c = (real *)f->c + (ptrdiff_t)i * f->ldc, *kept = (real *)f->kept + (ptrdiff_t)i * f->ldk;
        uint64_t element = (uint64_t)(f->first + i) * f->n;
        for (size_t j = 0; j < f->n;) {
            if (element < at || element >= end) {
                at = element / 4 * 4, end = at + PHILOX_WORDS;
                philox_words(f, at / 4, word);
            }
            size_t left = end - element < f->n - j ? (size_t)(end - element) : f->n - j;
            for (const uint32_t *w = word + (element - at); left > 0; w += VL) {
                words some;
                memcpy(&some, w, sizeof some);
                const size_t n = left_of(left, 0);
                const vec k = vreal(factor & (vuint)(__builtin_convertvector(some, vuint) >= vbits1(f->limit)));
                store_block(kept + j, k, n);
                store_block(c + j, load_block(x + j, 0, n, vzero()) * k, n);
                j += n, element += n, left -= n;
            }
        }
    }
}

#endif
