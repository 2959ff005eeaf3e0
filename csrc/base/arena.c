#define _GNU_SOURCE
#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../fbp.h"

#define ALIGN 64
#define PAD 512                     /* kernels may read one tile past the end of a buffer */
#define HUGE ((size_t)2 << 20)
#define LARGE (2 * HUGE)

void *fbp_arena_cut(struct fbp_arena *arena, size_t rows, size_t cols, size_t size)
{
    size_t bytes, end;
    if (__builtin_mul_overflow(rows, cols, &bytes) || __builtin_mul_overflow(bytes, size, &bytes) ||
        __builtin_add_overflow(bytes, ALIGN - 1, &bytes) || __builtin_add_overflow(arena->used, bytes & ~(size_t)(ALIGN - 1), &end) ||
        end > PTRDIFF_MAX / 2) {
        arena->overflow = 1;
        return NULL;
    }
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used = end;
    return piece;
}

int fbp_arena_open(struct fbp_arena *arena)
{
    if (arena->overflow) return FBP_TOO_LARGE;
    const size_t size = arena->used + PAD;
    arena->size = size;
    arena->used = 0;
    if (size >= LARGE) {
        void *block = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) return FBP_NO_MEMORY;              /* and nothing is mapped: to unmap so much from NULL on would take the program away */
        arena->block = block;
        arena->mapped = size + HUGE;
        arena->base = (char *)(((uintptr_t)arena->block + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
#ifdef MADV_HUGEPAGE
        madvise(arena->base, size, MADV_HUGEPAGE);
#endif
        return FBP_OK;
    }
    if (posix_memalign(&arena->block, ALIGN, size) != 0) {
        arena->block = NULL;
        return FBP_NO_MEMORY;
    }
    arena->base = memset(arena->block, 0, size);
    return FBP_OK;
}

void fbp_arena_close(struct fbp_arena *arena)
{
    if (arena->mapped) munmap(arena->block, arena->mapped);
    else free(arena->block);
    *arena = (struct fbp_arena){0};
}
