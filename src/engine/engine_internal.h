/* Shared by the files of the engine: loading, requests, sequences, admission, steps, logits. */
#ifndef VLY_ENGINE_INTERNAL_H
#define VLY_ENGINE_INTERNAL_H

#include "base/error.h"
#include "drafts/draft.h"
#include "engine/output.h"
#include "engine/scheduler.h"
#include "spec/block.h"
#include "spec/losses.h"
#include "spec/vocab_map.h"
#include "store/store.h"
#include "text/chat_template.h"

#include <stdatomic.h>
#include <uv.h>

/* The step that the device computes, or none. */
typedef struct {
    vly_sequence *sequence[VLY_MAX_PARALLEL];
    vly_schedule_demand demand[VLY_MAX_PARALLEL];
    vly_schedule_share share[VLY_MAX_PARALLEL];
    uint32_t n;
    vly_batch batch;
    vly_submission commands;
    uint32_t n_in_flight; /* submissions of it: more than 1 only where blocks run ahead */
    uint32_t n_submitted;
    uint64_t begin_ns, start_ns; /* of the host's work, of the device's */
    /* Of the last submission, by the device's clock; 0: none, or none follows it. */
    uint64_t end_ns;
} vly_engine_step;

struct vly_engine {
    vly_engine_info info;
    vly_gpu *gpu;
    uv_loop_t own_loop, *loop;
    bool own_loop_ready;
    uv_async_t *wake;                   /* work that waits for the loop */
    vly_gguf *target_file, *draft_file; /* open only while loading */
    vly_tokenizer *target_tokenizer, *draft_tokenizer;
    size_t max_token_bytes;    /* of a prompt that one target token can stand for */
    vly_model *target, *draft; /* draft: NULL without one */
    vly_store_model store;     /* what the target has besides its file */
    vly_engine_defaults defaults;
    vly_vocab_map map;
    vly_words words;         /* of a draft with a vocabulary of its own */
    vly_chat_template *chat; /* NULL: there is none, as chat_error tells */
    vly_error chat_error;
    float *pick_scratch; /* [2][n_vocab], from the first request on whose picks the host makes */
    bool prompts_as_decoding; /* vly_model_prompts_as_decoding of the target */
    uint32_t n_parallel, n_queued;
    vly_sequence *first, *last; /* all sequences, oldest first */
    uint32_t n_sequences;
    uint64_t n_ever; /* sequences, from the beginning */
    vly_engine_step step;
    bool advancing; /* vly_engine_advance is under way */
    bool closing;   /* nobody is to be told anything any more */
    atomic_bool interrupted;
    vly_engine_metrics metrics; /* counters only */
    vly_profile profile;        /* what blocks take and how often drafts are right */
    uint32_t n_calibrated; /* sizes of target passes that calibration went through; 0: none yet */
    bool calibrated;       /* it was run for VLY_DRAFT_AUTO */
    bool ahead;            /* blocks may be in flight before the one before is read */
    uint64_t n_ahead;      /* those that were */
    /* Time marks of a step, for each that may be in flight. */
    vly_gpu_commands *mark[VLY_MAX_AHEAD][VLY_N_MARKS];
};

struct vly_sequence {
    vly_engine *engine;
    vly_sequence *previous, *next;
    uint64_t age;
    vly_request request; /* what it points to is copied, or gone: the prompt */
    vly_logit_bias *bias;
    vly_ids text;      /* prompt and generated tokens; the cache lacks the last */
    uint32_t n_prompt; /* tokens of it whose K and V are computed as a prompt's */
    vly_kv_seq seq;
    vly_draft *draft;
    vly_block block;
    vly_losses losses;
    uint32_t n_draft_read; /* tokens that the draft reads in the step under way */
    vly_outcome waited; /* what steps took that drafted for the next block, which is still to be */
    vly_output output;
    bool begun;   /* it had its turn */
    bool running; /* it has its place in the caches; not any more where others needed it */
    bool cancelled, paused;
    bool ended;        /* by what it says */
    vly_error failure; /* code 0: none. Why it will end */
    vly_stats stats;
    uint64_t queued_ns, start_ns, block_ns;
};

/* Loads the models and sees to it that they and their caches fit. */
int vly_engine_load(vly_engine *engine, const vly_engine_options *options, vly_error *err);

/* Keeps the chat template that was asked for (must be known), or the file's own (if it is not, only
 * its use fails), while the target's file is open. */
int vly_engine_load_template(vly_engine *engine, const char *asked, vly_error *err);

/* Has the loop call vly_engine_advance. */
void vly_engine_wake(vly_engine *engine);

/* Unless a step is under way: ends sequences whose end has come, begins those whose turn it is, and
 * submits the next step. */
void vly_engine_advance(vly_engine *engine);

/* Begins, or resumes, as many waiting sequences as there is room for. No step is under way. */
void vly_engine_admit(vly_engine *engine);
/* Under page shortage: one of the running sequences gives up its place and resumes later; false
 * where there is only one. No step is under way. */
bool vly_engine_preempt(vly_engine *engine);

/* Submits the next step of all sequences that can take part, if there are any. */
void vly_engine_step_submit(vly_engine *engine);

/* Blocks that run ahead of the host (engine/ahead.c). Can those of the step that is being prepared
 * be followed by others? Then it advances on the device. */
bool vly_engine_ahead_begin(vly_engine *engine);
/* Submits more of them behind those that are in flight, unless somebody waits for these. */
void vly_engine_ahead_submit(vly_engine *engine, vly_gpu_done done);
/* Did the block that is done wait for the host, though blocks like it could follow it ahead of the
 * host? */
bool vly_engine_ahead_first(const vly_engine *engine, const vly_sequence *sequence);
/* None is in flight any more. */
void vly_engine_ahead_end(vly_engine *engine);

/* Tokens that the text may still grow by. */
uint32_t vly_sequence_room(const vly_sequence *sequence);
/* Gives it its place in the caches. */
int vly_sequence_begin(vly_sequence *sequence, vly_error *err);
/* Takes it away: what the caches held is computed anew, with the same bits, when it resumes. */
void vly_sequence_preempt(vly_sequence *sequence);
/* Its block is complete, in a step that took what `step` says: takes and hands out the tokens.
 * The sequence has ended or failed by this, or goes on. */
void vly_sequence_block_done(vly_sequence *sequence, const vly_outcome *step);
/* A step drafted for its next block, which was not in it. */
void vly_sequence_block_waited(vly_sequence *sequence, const vly_outcome *step);
/* What is decided for good and computed may be shared. */
void vly_sequence_offer(vly_sequence *sequence);
/* Ends the sequence with callbacks. */
void vly_sequence_finish(vly_sequence *sequence, vly_finish finish, const vly_error *err);
/* Ends it without. */
void vly_sequence_destroy(vly_sequence *sequence);

/* Records a pass and runs it once over nothing: drivers that compile at the first dispatch do it
 * here and not in the first block. Nothing may be under way. */
int vly_engine_warm_up(vly_engine *engine, vly_model *model, vly_pass pass, uint32_t n,
                       vly_error *err);

/* The profile of earlier runs; where there is none, or none that can be used, it is as it was. */
void vly_engine_load_profile(vly_engine *engine);
/* Keeps it for later ones, where this one is worth it and there is a place. */
void vly_engine_save_profile(const vly_engine *engine);

/* Measures what a step of plain decoding takes; and with `all`, for VLY_DRAFT_AUTO, warms up other
 * passes that blocks may take, and measures those that the profile does not know, as far as that is
 * quick: a further call goes on from there. Nothing may be under way. */
int vly_engine_calibrate(vly_engine *engine, bool all, vly_error *err);

/* What all blocks of the sequence run. */
int vly_sequence_warm_up(vly_sequence *sequence, vly_error *err);

/* Everything that the steps of n_parallel sequences may run, recorded in threads while the loop
 * runs; and calibrates. Tells progress: VLY_E_CANCELLED. */
int vly_engine_warm_up_all(vly_engine *engine, const vly_engine_options *options, vly_error *err);

/* What progress is told of: bytes of `weights`, and the warm-up as a quarter as many. */
uint64_t vly_engine_progress_total(const vly_engine_options *options, uint64_t weights);

/* Fails for a progress that wants loading to end: VLY_E_CANCELLED. */
int vly_engine_loading_stopped(vly_error *err);

/* Bytes of both models' weights on the device. */
uint64_t vly_engine_weights_bytes(const vly_engine *engine);

double vly_ms_since(uint64_t start_ns);

#endif
