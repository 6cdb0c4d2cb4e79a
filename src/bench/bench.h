/* volley bench: one file a bench, one row of benches.def each. What the benches of a model's passes
 * share is here: their options, the model under test, and what every report starts with. */
#ifndef VLY_BENCH_BENCH_H
#define VLY_BENCH_BENCH_H

#include "base/vec.h"
#include "bench/report.h"
#include "cli/option_table.h"
#include "engine/inside.h"

/* A bench, argv[0] being its name; returns the exit status as a command does (cli/cli.h). */
#define VLY_BENCH(name, function, summary) int function(int argc, char **argv);
#include "bench/benches.def"
#undef VLY_BENCH

#define VLY_BENCH_MAX_CTX    (1u << 24) /* tokens of a context that may be asked for */
#define VLY_BENCH_NAME_BYTES 256        /* of a synthetic model */

typedef struct {
    double data[16];
    size_t len;
} vly_reals;

typedef struct {
    const char *target, *draft; /* paths, or names of synthetic models; draft: NULL for none */
    const char *device, *arch;
    bool kv_f16;
    uint32_t n_ctx;    /* tokens before what is measured */
    vly_ids contexts;  /* decode */
    vly_ids sizes;     /* tokens: of passes, prompts, proposals (spec: VLY_SPEC_AUTO), steps */
    uint32_t n_repeat; /* measurements of a figure */
    uint32_t n_tokens; /* decode, block, spec: tokens of a measurement */
    double accept;     /* block, spec: the mean accepted length to pretend; 0: the real one */
    bool profile;
    /* spec */
    const char *prompts;       /* a file; NULL: the set that ships for such a model */
    const char *chat_template; /* NULL: the model's own */
    uint32_t limit, n_seeds;   /* prompts, 0: all; texts of each */
    vly_ids methods, kvs;      /* vly_draft_method; 0: int8, 1: f16 */
    vly_reals temperatures;
    bool compare_rules;
    const char *html;
    const char *csv, *json; /* files; NULL: none */
    /* Of synthetic models, "" where there is none: the target's, the draft's. */
    char synthetic[2][VLY_BENCH_NAME_BYTES];
} vly_bench_options;

/* Options of more than one bench: SHAPE:FORMAT, to char [VLY_BENCH_NAME_BYTES]; up to 16 numbers,
 * to vly_reals; up to 64 whole numbers, to vly_ids. */
extern const vly_option_type vly_bench_synthetic_type, vly_bench_reals_type, vly_bench_list_type;

/* Puts the synthetic model, unless it is "", in the place of the one that -LETTER names. 0, or 2
 * where there are both, which has been said. */
int vly_bench_choose_model(const char *command, char letter, const char **model,
                           const char *synthetic);

/* Which of the options a bench takes. */
typedef enum {
    VLY_BENCH_DECODE = 1,
    VLY_BENCH_VERIFY = 2,
    VLY_BENCH_PREFILL = 4,
    VLY_BENCH_BLOCK = 8,
    VLY_BENCH_LOAD = 16,
    VLY_BENCH_KERNEL = 32,
    VLY_BENCH_SPEC = 64
} vly_bench_kind;

/* Parses the options that a bench takes, runs `measure`, prints its report; returns the exit
 * status. VLY_E_CANCELLED of `measure`: interrupted, and the report has what there was by then. */
typedef int vly_bench_fn(const vly_bench_options *options, vly_report *report, vly_error *err);
int vly_bench_main(vly_bench_kind kind, const char *summary, vly_bench_fn *measure, int argc,
                   char **argv);

/* The end of a bench: prints the report unless `rc` says that there is none, and `err` (of `rc`,
 * where that is not 0) otherwise; returns the exit status. */
int vly_bench_end(int rc, const vly_report *report, const char *csv, const char *json,
                  vly_error *err);

/* From now on the first Ctrl-C and the first SIGTERM only make the other function true; the next
 * one has its usual effect. */
void vly_bench_catch_interrupt(void);
bool vly_bench_interrupted(void);

/* A buffer larger than caches and a plain kernel that reads it: what the device's memory can give,
 * and a way to empty its caches. */
typedef struct {
    vly_gpu *gpu;
    vly_gpu_buffer data, sink;
    vly_gpu_views *views; /* where kernels read through these */
    uint32_t width, groups;
    double bytes_per_ns; /* the median of the best number of workgroups */
} vly_reader;

/* Makes the buffer, of a power of two of at least 64 MiB, and measures. */
int vly_reader_init(vly_reader *reader, vly_gpu *gpu, vly_error *err);
/* Adds a reading of `n_bytes`, a power of two of at least 64 MiB and at most the buffer's. */
int vly_reader_add(vly_reader *reader, uint64_t n_bytes, vly_gpu_commands *commands,
                   vly_error *err);
/* Zeroed readers are left alone. */
void vly_reader_deinit(vly_reader *reader);

/* The models under test, loaded as the engine loads them. */
typedef struct {
    const vly_bench_options *options;
    vly_engine *engine;
    vly_gpu *gpu;
    vly_model *target;
    double bytes_per_ns;       /* the device's read bandwidth */
    vly_gpu_commands *mark[4]; /* timestamps around the passes of a submission */
    vly_kv_seq seq;            /* of the target; open while passes are measured alone */
    bool settled;              /* the device had work for a while, as clocks want it */
} vly_subject;

/* Loads with room for `n_ctx` tokens, measures the bandwidth, and reports what is measured and
 * where. The options must outlive it; deinit in any case. */
int vly_subject_init(vly_subject *subject, const vly_bench_options *options, uint32_t n_ctx,
                     vly_report *report, vly_error *err);
void vly_subject_deinit(vly_subject *subject);

/* Any token of the target's vocabulary, the same for the same `i`; never a control token of the
 * usual vocabularies. */
uint32_t vly_subject_token(const vly_subject *subject, uint32_t i);

/* Opens the sequence with `n` tokens in its cache; closes it (needed before the engine runs). */
int vly_subject_fill(vly_subject *subject, uint32_t n, vly_error *err);
void vly_subject_empty(vly_subject *subject);

/* Writes the step buffer for `n` tokens after the sequence's, each with a row of logits where n is
 * at most VLY_MAX_BATCH. */
int vly_subject_write_step(vly_subject *subject, uint32_t n, vly_error *err);

/* Times of one submission in ms: `wall` from submitting to having waited, the others on the device.
 */
typedef struct {
    double wall, gpu;
    double layers, head, pick; /* NAN where not asked apart */
} vly_pass_times;

/* Runs layers, head and pick over the `n` tokens of the step buffer once. `apart` marks the time
 * between the three, which costs a little. */
int vly_subject_run_pass(vly_subject *subject, uint32_t n, bool apart, vly_pass_times *out,
                         vly_error *err);
/* Runs such passes uncounted until a GPU's clocks, which fall when it has nothing to do, have
 * risen: until none has been faster than those before for 0.3 s, the first time 1.2 s, and for
 * eight times that at most. */
int vly_subject_settle(vly_subject *subject, uint32_t n, vly_error *err);

/* Submits and waits; *wall_ms is how long that took. */
int vly_subject_submit(vly_subject *subject, vly_gpu_commands *const *commands, uint32_t n,
                       double *wall_ms, vly_error *err);

/* A text that the engine writes greedily, past any end of text. The sequence must not be open. */
typedef struct {
    const uint32_t *ids; /* the prompt */
    uint32_t n_ids, n_tokens;
    vly_draft_method draft_method; /* where draft_max is not 0 */
    uint32_t draft_max;
    double forced_length; /* vly_sequence_force_acceptance; 0: not */
    uint64_t *token_ns;   /* [n_tokens]: when each token was handed out; may be NULL */
    uint32_t n_done;
    vly_stats stats;
} vly_bench_text;
int vly_subject_generate(vly_subject *subject, vly_bench_text *text, vly_error *err);

/* Measures the steps of passes over sizes[i] tokens at the sequence's context and adds them to the
 * report as the table "steps": VLY_PASS_PROMPT, or VLY_PASS_LAYERS with head and pick. */
int vly_subject_profile(vly_subject *subject, vly_pass pass, const uint32_t *sizes, size_t n_sizes,
                        vly_report *report, vly_error *err);

/* What is known of the clocks that the device runs at now, to `out` [n]; false: nothing. */
bool vly_bench_clocks(const vly_gpu_info *info, char *out, size_t n);

/* `bytes` in `ms`, as a share of what the bandwidth allows, in percent; NAN where that is unknown.
 */
double vly_subject_share(const vly_subject *subject, uint64_t bytes, double ms);

#endif
