/* Volley: speculative decoding on Vulkan. The public interface.
 *
 * An engine owns a device, a target model and, unless it is left out, a draft model. Requests
 * become sequences, which run together, step by step; tokens and ends arrive through callbacks
 * while a libuv loop runs: the engine's own (vly_engine_run) or the caller's. All calls on an
 * engine are made on that loop's thread; only vly_engine_interrupt may come from elsewhere. */
#ifndef VOLLEY_H
#define VOLLEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VLY_VERSION "0.1.0"

/* ---- Errors ---- */

/* Codes that fallible functions return: 0 or one of these. */
typedef enum {
#define VLY_ERROR_CODE(name, value, text) name = value,
#include "base/error_codes.def"
#undef VLY_ERROR_CODE
} vly_error_code;

/* Why a call failed: filled by the callee, owned by the caller. */
typedef struct {
    int code;           /* one of vly_error_code */
    char message[1024]; /* what was expected and what came; terminated */
} vly_error;

/* The standing text of a code ("malformed file"). */
const char *vly_error_name(int code);

/* ---- Sampling ---- */

typedef struct {
    uint32_t id;
    float bias; /* added to the logit before temperature; -INFINITY bans the token */
} vly_logit_bias;

/* How the next token is picked: penalties and bias, then temperature, top-k, top-p, min-p, in this
 * order. The same seed gives the same text with any draft, any draft length, or none. */
typedef struct {
    float temperature; /* 0: greedy, ties go to the lowest id. Range 0..100 */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* (0, 1]; 1: off */
    float min_p;       /* [0, 1]; 0: off */
    uint64_t seed;
    /* Penalties over the last `penalty_last_n` tokens of the text, prompt included (0: off;
     * UINT32_MAX: all). Repetition: Keskar et al., arXiv 1909.05858 (logit > 0 divided, else
     * multiplied; 1: off). Presence and frequency: subtracted once, and per occurrence (0: off). */
    float repeat_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint32_t penalty_last_n;
    const vly_logit_bias *bias; /* n_bias entries, the caller's */
    uint32_t n_bias;
} vly_sampling;

/* What `volley run` takes where nothing is asked for: temperature 0.7, top-p 0.95, the rest off.
 * The seed is 0: the caller chooses one. */
vly_sampling vly_sampling_default(void);

/* ---- Engine ---- */

typedef struct vly_engine vly_engine;
typedef struct vly_sequence vly_sequence;

#define VLY_MAX_DRAFT        16 /* drafted tokens in a block: one pass verifies 17 tokens of a text */
#define VLY_MAX_PARALLEL     64 /* sequences that run at a time */
#define VLY_MAX_STOP         8  /* stop strings of a request */
#define VLY_MAX_TOP_LOGPROBS 20

struct uv_loop_s;

typedef struct {
    const char *target; /* path of a GGUF file, or the name of a model (docs/models.md) */
    const char *draft;  /* the same, or NULL to decode plainly */
    const char *device; /* NULL: the best; an index or a part of the name */
    uint32_t n_ctx; /* tokens of prompt and text at most; 0: as many as its publisher recommends,
                       else as the target was made for, or as the device's memory holds */
    bool kv_f16;    /* keep keys and values as f16 and not as int8 */
    uint32_t n_parallel; /* sequences that may run at a time, 1..VLY_MAX_PARALLEL; 0: 1 */
    uint32_t n_queued;   /* further requests that wait for their turn; 0: none wait */
    uint64_t kv_bytes;   /* device memory for both models' caches; 0: what n_parallel contexts need,
                            or what the device has left of that */
    struct uv_loop_s *loop; /* run on this loop, which must outlive the engine; NULL: an own one */
    /* How conversations are spelled: NULL for the target's own template (that of Ollama's store
     * where it has one of a known family, else the file's), else the name of a family
     * or the text of a template, which must then be known (VLY_E_UNSUPPORTED). */
    const char *chat_template;
    const char *arch; /* path of a JSON file that describes an architecture beside the ones that are
                         known (docs/models.md), or NULL */
    bool warm_up; /* record, compile and measure all that n_parallel sequences may run now, and not
                     when they first do, which holds others up; the loop runs meanwhile, so that the
                     engine may not be created in one of its callbacks */
    /* Told while loading: how much of it is done, of all: bytes of weights that were uploaded, both
     * models together, and behind them the warm-up as a quarter as many; 0 of 0 before that is
     * known, all once and last. A return other than 0 ends loading. May be NULL. */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
} vly_engine_options;

/* Loads. Errors: VLY_E_INVALID (n_parallel), VLY_E_CANCELLED (progress ended it), those of the
 * files (VLY_E_NOT_FOUND, VLY_E_FORMAT, VLY_E_UNSUPPORTED), of the device (VLY_E_NO_DEVICE,
 * VLY_E_DEVICE, VLY_E_DEVICE_MEMORY: how much was needed, how much there was, and what would fit),
 * VLY_E_DRAFT (the draft shares no tokens with the target), VLY_E_HOST_MEMORY. */
int vly_engine_create(const vly_engine_options *options, vly_engine **out, vly_error *err);
/* Ends sequences that still run, without callbacks; not from within one. A loop of the caller's
 * must run once more before it is closed. */
void vly_engine_destroy(vly_engine *engine);

/* The loop that the engine runs on: its own, or the one it was given. */
struct uv_loop_s *vly_engine_loop(vly_engine *engine);

typedef struct {
    const char *device_name;
    const char *target_name;                /* general.name of the file */
    const char *draft_name;                 /* the same; NULL without a draft */
    uint32_t n_ctx;                         /* of a sequence */
    uint32_t n_vocab;                       /* of the target */
    uint32_t n_draft_mapped, n_draft_vocab; /* draft tokens that the target can take, of all */
    uint64_t target_bytes, draft_bytes;     /* weights and activations on the device */
} vly_engine_info;

/* Static for the engine's life. */
const vly_engine_info *vly_engine_get_info(const vly_engine *engine);

/* The target's tokens of `len` bytes of text, in an array that the caller frees. With `bos`, the
 * beginning-of-text token in front where the vocabulary asks for one; with `parse_special`, text
 * that spells a control token becomes that token. */
int vly_engine_tokenize(const vly_engine *engine, const char *text, size_t len, bool bos,
                        bool parse_special, uint32_t **ids, size_t *n, vly_error *err);

/* The exact bytes that a target token stands for; *len of them, not terminated. Static. */
const char *vly_engine_token_bytes(const vly_engine *engine, uint32_t id, size_t *len);

/* What the target's publisher recommends for requests whose author has no wish of his own: of
 * models in Ollama's store the parameters and the system message, else nothing. */
typedef struct {
    vly_sampling sampling;   /* what is not recommended is as in vly_sampling_default, and
                                penalties would look at the last 64 tokens */
    uint32_t max_tokens;     /* UINT32_MAX: no limit */
    const char *const *stop; /* n_stop strings */
    uint32_t n_stop;
    const char *system; /* NULL: none. vly_engine_apply_template puts it in front by itself */
} vly_engine_defaults;

/* Static for the engine's life. */
const vly_engine_defaults *vly_engine_get_defaults(const vly_engine *engine);

/* ---- Conversations ---- */

typedef struct {
    const char *role;    /* "system", "user" or "assistant" */
    const char *content; /* any bytes */
    size_t content_len;
} vly_chat_message;

/* The prompt text of a conversation as the target's template spells it, malloc'd, terminated, with
 * the default system message in front where there is one and the first message is no other; with
 * `add_generation_prompt`, the assistant's turn opened behind it. Tokenize it with parse_special;
 * the beginning-of-text token, where the text spells it, is not put in front again. Errors:
 * VLY_E_UNSUPPORTED (the target has no template or one of no known family: says how to give one),
 * VLY_E_INVALID (no messages, or roles that the template does not take in this order: names the
 * message), VLY_E_HOST_MEMORY. */
int vly_engine_apply_template(const vly_engine *engine, const vly_chat_message *messages, size_t n,
                              bool add_generation_prompt, char **text, size_t *len, vly_error *err);

/* ---- Drafting ---- */

/* How tokens are drafted. What is drafted changes the speed, never the text. */
typedef enum {
    VLY_DRAFT_DEFAULT, /* VLY_DRAFT_AUTO */
#define VLY_DRAFT_METHOD(id, name, ...) VLY_DRAFT_##id,
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD
    VLY_N_DRAFT_METHODS
} vly_draft_method;

/* "auto", "model", "ngram", ...; NULL for the default and for what is no method. */
const char *vly_draft_method_name(vly_draft_method method);

/* Does it draft with a model? One that needs it needs an engine that was created with a draft. */
typedef enum { VLY_MODEL_UNUSED, VLY_MODEL_OPTIONAL, VLY_MODEL_NEEDED } vly_draft_model_use;
vly_draft_model_use vly_draft_method_model_use(vly_draft_method method); /* default: that of auto */

/* The draft_max that is good for most: 4 for what a model drafts, 8 for n-grams, which cost
 * nothing, VLY_MAX_DRAFT for auto, which takes less by itself; 0 for none and for what is no
 * method. */
uint32_t vly_draft_method_default_max(vly_draft_method method);
/* A draft_max that asks for it. */
#define VLY_DRAFT_MAX_DEFAULT UINT32_MAX

/* ---- Generation ---- */

typedef enum {
    VLY_FINISH_STOP,   /* the model ended its text */
    VLY_FINISH_LENGTH, /* max_tokens, or the end of the context */
    VLY_FINISH_CANCELLED,
    VLY_FINISH_ERROR
} vly_finish;

/* "stop", "length", "cancelled", "error". */
const char *vly_finish_name(vly_finish finish);

/* Sequences of a higher priority come first; those of one take turns. */
typedef enum { VLY_PRIORITY_LOW = -1, VLY_PRIORITY_NORMAL = 0, VLY_PRIORITY_HIGH = 1 } vly_priority;

typedef struct {
    uint32_t id;
    float logprob;
} vly_candidate;

/* How likely a token was: log-probabilities of the model's distribution with penalties and bias,
 * before temperature and filters. */
typedef struct {
    float logprob; /* of the token itself */
    uint32_t n_top;
    const vly_candidate *top; /* [n_top] best first, ties by id */
} vly_token_logprobs;

#define VLY_N_LOST_RANKS 6

/* What a sequence did so far. Times in milliseconds. */
typedef struct {
    uint32_t prompt_tokens;
    uint32_t n_cached_tokens;  /* of the prompt: those whose keys and values were there already */
    uint32_t generated_tokens; /* an end-of-text token is not counted */
    int32_t stop_index;        /* which stop string ended the text; -1: none */
    double queue_ms;           /* from the request until it was its turn */
    double prompt_ms;          /* from there until the prompt is read */
    double generate_ms;        /* from there to the last token */
    uint32_t blocks;           /* target passes that decided tokens */
    uint32_t blocks_by_length[VLY_MAX_DRAFT + 1]; /* by the tokens drafted */
    uint32_t probes;                              /* of blocks, those that VLY_DRAFT_AUTO drafted in
                                                     to learn, not because it expected a gain */
    uint64_t generated_bytes;
    uint32_t drafted, accepted;
    /* What each method proposed: a method made of others has nothing of its own, and blocks without
     * a proposal are those of VLY_DRAFT_NONE. */
    uint32_t blocks_by_method[VLY_N_DRAFT_METHODS];
    uint32_t drafted_by_method[VLY_N_DRAFT_METHODS], accepted_by_method[VLY_N_DRAFT_METHODS];
    /* Why drafted tokens were lost: drafted = accepted + all five. The first three: of a block the
     * first token lost. */
    uint32_t lost_to_pick;  /* another token was the target's pick */
    uint32_t lost_unmapped; /* so it was, one that the draft's vocabulary does not have */
    uint32_t lost_split;    /* the target's text has the drafted bytes, cut into other tokens */
    uint32_t lost_to_front; /* drafted behind one of those */
    uint32_t lost_to_end;   /* drafted behind the end of the text */
    /* Of lost_to_pick: the rank that the target's logits gave the drafted token: 1 (likeliest, but
     * the sampling chose another), 2, 3, 4 to 10, 11 to 100, more. */
    uint32_t lost_by_rank[VLY_N_LOST_RANKS];
    uint32_t drafted_by_position[VLY_MAX_DRAFT]; /* how often position i was drafted */
    uint32_t accepted_by_position[VLY_MAX_DRAFT];
    /* Device time of draft steps and of target passes, after the prompt. */
    double draft_ms, verify_ms;
    /* Host time of proposing, of which most goes into bringing text from one vocabulary into the
     * other; time that blocks took beyond that and the device's. */
    double map_ms, wait_ms;
    double idle_ms;  /* device time between blocks in which it computed nothing */
    double plain_ms; /* what the same text would have taken without a draft: for blocks that
                        drafted, estimated from the time of a pass over one token; 0: not known */
    uint64_t kv_target_bytes, kv_draft_bytes; /* the most that this engine's caches held */
} vly_stats;

typedef struct {
    const char *prompt; /* any bytes; may be NULL where tokens are given */
    size_t prompt_len;
    const uint32_t *prompt_tokens; /* target tokens to take as they are, in place of the text */
    size_t n_prompt_tokens;
    bool parse_special;  /* control tokens may be spelled in the prompt */
    uint32_t max_tokens; /* UINT32_MAX: until the model or the context ends */
    bool ignore_end;     /* go on past the model's end of text */
    /* The text ends before the first of these strings that occurs in it, across tokens too; of two
     * that end at the same byte the longer one counts. Text that may be the beginning of one is
     * held back. n_stop <= VLY_MAX_STOP, none empty. Copied. */
    const char *const *stop;
    uint32_t n_stop;
    vly_priority priority;
    bool logprobs;           /* tell how likely each token was */
    uint32_t n_top_logprobs; /* and the likeliest in its place, 0..VLY_MAX_TOP_LOGPROBS */
    bool no_prefix_reuse;    /* compute the whole prompt, even where the cache has a part of it */
    vly_sampling sampling;
    vly_draft_method draft_method;
    uint32_t draft_max; /* tokens drafted in a block, 0..VLY_MAX_DRAFT: with VLY_DRAFT_AUTO at most
                           that many, else always; 0: decode plainly; or VLY_DRAFT_MAX_DEFAULT */

    /* Called as tokens are decided: `n` > 0 target tokens, how likely they were [n] (NULL unless
     * asked for), and the whole UTF-8 characters of text that they complete (may be empty: len 0).
     */
    void (*on_tokens)(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len);
    /* Called once, last. `err` is set with VLY_FINISH_ERROR. `text` is what was held back: what
     * might have become a stop string, and an unfinished character as U+FFFD. The sequence is gone
     * when it returns. */
    void (*on_finish)(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err);
    void *arg;
} vly_request;

/* The tokens of a request's prompt, which is text, as vly_engine_start makes them, in an array that
 * the caller frees; NULL where it has none. May be called in any thread, so that long prompts do
 * not hold up the loop. VLY_E_CONTEXT: far too long. */
int vly_engine_encode_prompt(const vly_engine *engine, const vly_request *request, uint32_t **ids,
                             size_t *n, vly_error *err);

/* Begins a sequence, or queues it where n_parallel run; its work is done as the loop runs. What
 * `request` points to is copied, but for prompt_tokens and prompt not beyond the call. *prompt_ids
 * (may be NULL) gets a malloc'd copy of the prompt's tokens, *n_prompt_ids their number. May be
 * called from callbacks. Errors: VLY_E_INVALID (sampling, draft_max, draft_method, stop strings,
 * empty prompt), VLY_E_CONTEXT (can never be served: the prompt does not fit), VLY_E_BUSY (the
 * queue is full), memory. */
int vly_engine_start(vly_engine *engine, const vly_request *request, vly_sequence **out,
                     uint32_t **prompt_ids, size_t *n_prompt_ids, vly_error *err);

/* Ends a sequence with VLY_FINISH_CANCELLED, as the loop runs and at the latest after the step that
 * is under way. */
void vly_sequence_cancel(vly_sequence *sequence);

/* A paused sequence takes part in no step, from the next one on; others go on. */
void vly_sequence_pause(vly_sequence *sequence, bool paused);

/* Runs the loop until no sequence is left. Not from within a callback. */
int vly_engine_run(vly_engine *engine, vly_error *err);

/* Cancels all sequences. May be called from any thread and from a signal handler. */
void vly_engine_interrupt(vly_engine *engine);

typedef struct {
    uint32_t used;   /* held by sequences */
    uint32_t shared; /* of these, by more than one */
    uint32_t free;   /* for the taking, those that only keep a text for reuse included */
    uint32_t total;
} vly_page_counts;

/* What the engine does now, and counters from its beginning. */
typedef struct {
    /* Sequences: begun, waiting to begin; of those begun the ones that take part in no step,
     * because they were paused or others needed their pages. */
    uint32_t running, queued, paused;
    uint64_t preempted; /* how often others needed the pages of one */
    vly_page_counts target, draft;
    uint64_t prefix_hit_tokens, prefix_miss_tokens; /* of prompts: reused, computed */
    uint64_t device_bytes;                          /* weights, activations and pages */
    uint64_t steps;
    double step_ms; /* in all, from a step's submission to its completion */
} vly_engine_metrics;

void vly_engine_get_metrics(const vly_engine *engine, vly_engine_metrics *out);

/* Called for each position in turn: `logits` [n_vocab] of the token after ids[pos]. A return other
 * than 0 ends the run with that code. */
typedef int (*vly_logits_fn)(void *arg, uint32_t pos, uint32_t id, const float *logits,
                             uint32_t n_vocab);

/* The target's logits over `n` tokens, from position `first` on. VLY_E_BUSY (a sequence is there),
 * VLY_E_CONTEXT, VLY_E_INVALID (an id outside the vocabulary: names it). */
int vly_engine_logits(vly_engine *engine, const uint32_t *ids, size_t n, size_t first,
                      vly_logits_fn fn, void *arg, vly_error *err);

#ifdef __cplusplus
}
#endif

#endif
