#include "text/tokenizer_internal.h"

#include <stdlib.h>

/* A merge takes one candidate out and puts at most two in, and leaves one symbol less: the heap
 * never holds more than twice as many as there are symbols. */
int vly_merge_reserve(vly_encode_work *work)
{
    size_t cap = work->cap_symbols ? 2 * work->cap_symbols : 64;
    vly_symbol *symbols = realloc(work->symbols, cap * sizeof *symbols);
    if (!symbols) return VLY_E_HOST_MEMORY;
    work->symbols = symbols;
    vly_merge_candidate *heap = realloc(work->heap, 2 * cap * sizeof *heap);
    if (!heap) return VLY_E_HOST_MEMORY;
    work->heap = heap;
    work->cap_symbols = cap;
    return 0;
}

int vly_merge_push(vly_encode_work *work, uint32_t id, size_t at, size_t n_bytes)
{
    int rc = work->n_symbols == work->cap_symbols ? vly_merge_reserve(work) : 0;
    if (rc) return rc;
    int32_t i = (int32_t)work->n_symbols++;
    work->symbols[i] = (vly_symbol){id, (uint32_t)at, (uint32_t)n_bytes, i - 1, -1};
    if (i > 0) work->symbols[i - 1].next = i;
    return 0;
}

static void sift_down(vly_merge_candidate *heap, size_t n, size_t i)
{
    vly_merge_candidate moving = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].key < heap[child].key) child++;
        if (moving.key <= heap[child].key) break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

static void sift_up(vly_merge_candidate *heap, size_t i)
{
    vly_merge_candidate moving = heap[i];
    for (; i > 0 && moving.key < heap[(i - 1) / 2].key; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = moving;
}

/* Appends the candidate of symbol `left` and its right neighbour, if they merge, to the heap's
 * array, which has room. */
static bool append_candidate(const vly_tokenizer *t, vly_encode_work *work, const char *text,
                             int32_t left)
{
    const vly_symbol *a = &work->symbols[left];
    if (a->next < 0) return false;
    const vly_symbol *b = &work->symbols[a->next];
    uint32_t order, merged;
    if (!t->kind->pair(t, text, a, b, &order, &merged)) return false;
    work->heap[work->n_heap++] = (vly_merge_candidate){(uint64_t)order << 32 | (uint32_t)left,
                                                       merged, a->n_bytes + b->n_bytes};
    return true;
}

void vly_merge_run(const vly_tokenizer *t, vly_encode_work *work, const char *text)
{
    if (work->n_symbols < 2) return;
    vly_symbol *symbols = work->symbols;
    work->n_heap = 0;
    for (size_t i = 0; i + 1 < work->n_symbols; i++) append_candidate(t, work, text, (int32_t)i);
    for (size_t i = work->n_heap / 2; i-- > 0;) sift_down(work->heap, work->n_heap, i);

    while (work->n_heap) {
        vly_merge_candidate best = work->heap[0];
        work->heap[0] = work->heap[--work->n_heap];
        if (work->n_heap) sift_down(work->heap, work->n_heap, 0);

        int32_t left = (int32_t)(uint32_t)best.key;
        vly_symbol *a = &symbols[left];
        /* Symbols only grow, so equal lengths mean that neither has changed since. */
        if (!a->n_bytes || a->next < 0) continue;
        vly_symbol *b = &symbols[a->next];
        if (a->n_bytes + b->n_bytes != best.n_bytes) continue;

        a->id = best.merged;
        a->n_bytes = best.n_bytes;
        a->next = b->next;
        b->n_bytes = 0;
        if (a->next >= 0) symbols[a->next].prev = left;
        if (append_candidate(t, work, text, left)) sift_up(work->heap, work->n_heap - 1);
        if (a->prev >= 0 && append_candidate(t, work, text, a->prev))
            sift_up(work->heap, work->n_heap - 1);
    }
}
