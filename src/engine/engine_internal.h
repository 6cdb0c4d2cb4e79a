/* Shared by the files of the engine: loading, sequences, logits. */
#ifndef VLY_ENGINE_INTERNAL_H
#define VLY_ENGINE_INTERNAL_H

#include "base/error.h"
#include "drafts/draft.h"
#include "spec/vocab_map.h"

#include <stdatomic.h>
#include <uv.h>

struct vly_engine {
    vly_engine_info info;
    vly_gpu *gpu;
    uv_loop_t loop;
    bool loop_ready;
    vly_gguf *target_file, *draft_file; /* open only while loading */
    vly_tokenizer *target_tokenizer, *draft_tokenizer;
    vly_model *target, *draft; /* draft: NULL without one */
    vly_vocab_map map;
    vly_sequence *sequence; /* the one that runs, or NULL */
    atomic_bool interrupted;
    /* Time marks around the two halves of a block. */
    vly_gpu_commands *mark[3];
};

/* Submits the first work of a sequence that has not begun. */
void vly_sequence_begin(vly_sequence *sequence);

/* Ends the sequence without callbacks. */
void vly_sequence_destroy(vly_sequence *sequence);

#endif
