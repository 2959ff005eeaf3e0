/* arena.h: one block of zeroed memory, cut into aligned pieces.
 *
 * The same layout code runs twice: on an arena without memory it measures (pieces are NULL), after fbp_arena_open it hands
 * out the pieces. Sizes are checked for overflow; a measured arena that overflowed has `overflow` set.
 */
#ifndef FBP_ARENA_H
#define FBP_ARENA_H

#include <stddef.h>

struct fbp_arena {
    char *base;         /* NULL while measuring */
    size_t used, size;
    int overflow;
    size_t mapped;      /* bytes from mmap, 0 for malloc */
    void *block;
};

/* The next piece: rows x cols x size bytes, aligned to 64. */
void *fbp_arena_cut(struct fbp_arena *arena, size_t rows, size_t cols, size_t size);
/* Memory for what was measured, zeroed; returns an fbp_status. Large blocks lie on 2 MiB pages where the system has them. */
int fbp_arena_open(struct fbp_arena *arena);
void fbp_arena_close(struct fbp_arena *arena);

#endif
