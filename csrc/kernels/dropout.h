/* dropout.h: inverted dropout with a mask that depends on the place of an element alone. Word i of the Philox stream (see
 * base/rng.h) belongs to element i of the batch, counted row by row: kept where it is at least `limit`, and then multiplied. */
#ifndef FBP_DROPOUT_H
#define FBP_DROPOUT_H

#include "kernels.h"
#include "vec.h"

#define PHILOX_BLOCKS 16        /* at a time, side by side in registers; four words each */

/* Words of blocks first .. first + PHILOX_BLOCKS, in the order of the stream. */
static void philox_words(const struct fbp_dropout *f, uint64_t first, uint32_t *word)
{
    uint32_t c[4][PHILOX_BLOCKS];
    uint32_t k0 = (uint32_t)f->seed, k1 = (uint32_t)(f->seed >> 32);
    for (int b = 0; b < PHILOX_BLOCKS; b++) {
        c[0][b] = (uint32_t)(first + (uint64_t)b), c[1][b] = (uint32_t)((first + (uint64_t)b) >> 32);
        c[2][b] = f->step, c[3][b] = f->stream;
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int b = 0; b < PHILOX_BLOCKS; b++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c[0][b], p1 = (uint64_t)0xCD9E8D57u * c[2][b];
            c[0][b] = (uint32_t)(p1 >> 32) ^ c[1][b] ^ k0;
            c[2][b] = (uint32_t)(p0 >> 32) ^ c[3][b] ^ k1;
            c[1][b] = (uint32_t)p1;
            c[3][b] = (uint32_t)p0;
        }
    for (int b = 0; b < PHILOX_BLOCKS; b++)
        for (int w = 0; w < 4; w++) word[4 * b + w] = c[w][b];
}

/* kept = 0 or 1 / (1 - rate), c = x kept, for m rows of n, the first of which is row `first` of the batch. */
static void dropout(const struct fbp_dropout *f)
{
    uint32_t word[4 * PHILOX_BLOCKS];
    uint64_t at = 0, end = 0;                       /* elements whose words are there */
    const real factor = (real)(1 / (1 - f->rate));
    for (size_t i = 0; i < f->m; i++) {
        const real *x = f->x[i];
        real *c = (real *)f->c + (ptrdiff_t)i * f->ldc, *kept = (real *)f->kept + (ptrdiff_t)i * f->ldk;
        uint64_t element = (uint64_t)(f->first + i) * f->n;
        for (size_t j = 0; j < f->n;) {
            if (element < at || element >= end) {
                at = element / 4 * 4, end = at + 4 * PHILOX_BLOCKS;
                philox_words(f, at / 4, word);
            }
            const size_t left = (size_t)(end - element), stop = f->n - j < left ? f->n : j + left;
            for (const uint32_t *w = word + (element - at); j < stop; j++, element++, w++) {
                kept[j] = *w >= f->limit ? factor : 0;
                c[j] = x[j] * kept[j];
            }
        }
    }
}

#endif
