/* Shared by the files of the engine: loading, requests, sequences, steps, logits. */
#ifndef VLY_ENGINE_INTERNAL_H
#define VLY_ENGINE_INTERNAL_H

#include "base/error.h"
#include "drafts/draft.h"
#include "engine/output.h"
#include "spec/block.h"
#include "spec/vocab_map.h"
#include "store/store.h"
#include "text/chat_template.h"

#include <stdatomic.h>
#include <uv.h>

struct vly_engine {
    vly_engine_info info;
    vly_gpu *gpu;
    uv_loop_t own_loop, *loop;
    bool own_loop_ready;
    uv_async_t *wake;                   /* work that waits for the loop */
    vly_gguf *target_file, *draft_file; /* open only while loading */
    vly_tokenizer *target_tokenizer, *draft_tokenizer;
    vly_model *target, *draft; /* draft: NULL without one */
    vly_store_model store;     /* what the target has besides its file */
    vly_engine_defaults defaults;
    vly_chat_template *chat; /* NULL: there is none, as chat_error tells */
    vly_error chat_error;
    vly_vocab_map map;
    uint32_t n_parallel, n_queued;
    vly_sequence *first, *last; /* all sequences, oldest first */
    uint32_t n_sequences;
    vly_sequence *stepping; /* whose work the device does; NULL: none */
    bool advancing;         /* vly_engine_advance is under way */
    bool closing;           /* nobody is to be told anything any more */
    uint64_t step_start_ns;
    atomic_bool interrupted;
    vly_engine_metrics metrics; /* counters only */
    vly_profile profile;        /* what blocks take and how often drafts are right */
    bool calibrated;
    /* Time marks around the two halves of a block. */
    vly_gpu_commands *mark[3];
};

struct vly_sequence {
    vly_engine *engine;
    vly_sequence *previous, *next;
    vly_request request; /* what it points to is copied, or gone: the prompt */
    vly_logit_bias *bias;
    vly_ids text; /* prompt and generated tokens; the cache lacks the last */
    vly_kv_seq seq;
    vly_draft *draft;
    vly_block block;
    uint32_t n_read; /* prompt tokens in the submission under way */
    bool reading_draft;
    vly_output output;
    bool running; /* it was its turn to begin */
    bool cancelled, paused;
    vly_stats stats;
    uint64_t queued_ns, start_ns, block_ns;
    uint64_t turn_ns; /* when its last step began on the host */
};

/* Loads the models and sees to it that they and their caches fit. */
int vly_engine_load(vly_engine *engine, const vly_engine_options *options, vly_error *err);

/* Keeps the chat template that was asked for (must be known), or the file's own (if it is not, only
 * its use fails), while the target's file is open. */
int vly_engine_load_template(vly_engine *engine, const char *asked, vly_error *err);

/* Has the loop call vly_engine_advance. */
void vly_engine_wake(vly_engine *engine);

/* Unless a step is under way: ends sequences that were cancelled, begins those whose turn it is,
 * and submits the next step. */
void vly_engine_advance(vly_engine *engine);

/* Makes a queued sequence a running one. */
int vly_sequence_begin(vly_sequence *sequence, vly_error *err);

/* Submits the sequence's next work; its completion calls vly_engine_advance. It may also end. */
void vly_sequence_step(vly_sequence *sequence);

/* Ends the sequence with callbacks. */
void vly_sequence_finish(vly_sequence *sequence, vly_finish finish, const vly_error *err);

/* Ends it without. */
void vly_sequence_destroy(vly_sequence *sequence);

/* Records a pass and runs it once over nothing: drivers that compile at the first dispatch do it
 * here and not in the first block. Nothing may be under way. */
int vly_engine_warm_up(vly_engine *engine, vly_model *model, vly_pass pass, uint32_t n,
                       vly_error *err);

/* For VLY_DRAFT_AUTO, once: warms up passes that blocks may take, and measures them where the
 * profile does not know what they take. Nothing may be under way. */
int vly_engine_calibrate(vly_engine *engine, vly_error *err);

double vly_ms_since(uint64_t start_ns);

#endif
