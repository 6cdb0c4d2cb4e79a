#include "gguf/name_index.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

static const vly_bytes *name_of(const vly_name_index *index, size_t i)
{
    return (const vly_bytes *)((const char *)index->items + i * index->stride);
}

/* The slot that holds `name`, or the empty one where it would go. */
static uint32_t *slot_of(const vly_name_index *index, vly_bytes name)
{
    size_t mask = index->n_slots - 1;
    size_t i = XXH3_64bits_withSeed(name.data, name.len, index->seed) & mask;
    for (; index->slots[i]; i = (i + 1) & mask) {
        const vly_bytes *other = name_of(index, index->slots[i] - 1);
        if (other->len == name.len && memcmp(other->data, name.data, name.len) == 0) break;
    }
    return &index->slots[i];
}

int vly_name_index_init(vly_name_index *index, const void *items, size_t n, size_t stride,
                        size_t *duplicate, vly_error *err)
{
    *index = (vly_name_index){.items = items, .stride = stride, .n_slots = 2};
    *duplicate = n;
    if (n >= (size_t)1 << 30)
        return vly_fail(err, VLY_E_UNSUPPORTED, "expected fewer than 2^30 names, got %zu", n);
    while (index->n_slots < 2 * n) index->n_slots *= 2;
    index->slots = calloc(index->n_slots, sizeof *index->slots);
    if (!index->slots) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to index %zu names", n);
    if (getrandom(&index->seed, sizeof index->seed, GRND_NONBLOCK) != sizeof index->seed)
        index->seed = vly_clock_ns();
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = slot_of(index, *name_of(index, i));
        if (*slot)
            *duplicate = i;
        else
            *slot = (uint32_t)i + 1;
    }
    return 0;
}

void vly_name_index_deinit(vly_name_index *index)
{
    free(index->slots);
    *index = (vly_name_index){0};
}

const void *vly_name_index_find(const vly_name_index *index, vly_bytes name)
{
    uint32_t item = *slot_of(index, name);
    return item ? name_of(index, item - 1) : NULL;
}
