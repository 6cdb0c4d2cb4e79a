/* Sets of prompts: JSON lines of {"category": "...", "turns": ["...", ...]}. */
#ifndef VLY_BENCH_PROMPTS_H
#define VLY_BENCH_PROMPTS_H

#include "base/error.h"
#include "base/vec.h"

typedef struct {
    char *category;
    vly_text *turns; /* [n_turns], what the user says in turn */
    size_t n_turns;  /* at least 1 */
} vly_prompt;

typedef struct {
    vly_prompt *items;
    size_t n, cap;
} vly_prompts;

/* Reads a set from the file `path`. Errors: VLY_E_NOT_FOUND, VLY_E_IO, VLY_E_FORMAT (a line that is
 * no such object: names it; a file without any), VLY_E_HOST_MEMORY. Deinit in any case. */
int vly_prompts_read(const char *path, vly_prompts *out, vly_error *err);
void vly_prompts_deinit(vly_prompts *prompts);

/* Keeps the prompts with keep[i], and of those at most `limit` (0: all), spread evenly over them in
 * their order. */
void vly_prompts_select(vly_prompts *prompts, const bool *keep, size_t limit);

/* Drops all behind the first `n`. */
void vly_prompts_truncate(vly_prompts *prompts, size_t n);

#endif
