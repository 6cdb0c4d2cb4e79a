/* The parts of an engine, for measuring and testing. */
#ifndef VLY_ENGINE_INSIDE_H
#define VLY_ENGINE_INSIDE_H

#include "model/model.h"
#include "volley.h"

vly_gpu *vly_engine_gpu(vly_engine *engine);
vly_model *vly_engine_target(vly_engine *engine);
vly_model *vly_engine_draft(vly_engine *engine); /* NULL without one */

/* Makes the sequence accept as many proposals as give this mean accepted length, right or wrong:
 * for measuring speed at a given acceptance. Before it runs. */
void vly_sequence_force_acceptance(vly_sequence *sequence, double mean_length);

/* Has the engine go on as where prompts and decoding leave different bits in the pages. Before any
 * sequence. */
void vly_engine_keep_prompts_apart(vly_engine *engine);

/* Whether blocks are in flight before the host has read the one before: from the beginning so on a
 * GPU, where it pays; a processor gains nothing by it. While no sequence runs. And how many were.
 */
void vly_engine_set_ahead(vly_engine *engine, bool ahead);
uint64_t vly_engine_count_ahead(const vly_engine *engine);

#endif
