/* Chained steps (shaders/chain.glsl): tried when a model is loaded, with bounded waits, and kept
 * only where they work, which is to leave the same bits, and are faster than barriers. */
#include "base/log.h"
#include "base/stats.h"
#include "model/model_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Quads of x, of all tokens, that a product has room for in 48 KiB of shared memory. */
#define X_QUADS 1900
/* Of each kind, in turns. A clock that rises meanwhile favours none: what counts is how a kind
 * compares to barriers in the same round, and of that the median. */
#define ROUNDS 15

#define GATE_UP (1u << VLY_STEP_GATE_UP)
#define ALL                                                                                        \
    (1u << VLY_STEP_QKV | 1u << VLY_STEP_ATTENTION | 1u << VLY_STEP_OUT | GATE_UP |                \
     1u << VLY_STEP_DOWN)

/* Small steps gain most, and by tags: there a product reads all of x before it begins, in twice as
 * many bytes, so that large ones lose. What has workgroups of few subgroups, as gate and up often
 * do, may rather have them spread evenly, as behind a barrier they are. */
static const struct {
    const char *name;
    uint32_t links;
    bool tags;
} chains[] = {
    {"none", 0, false},
    {"by counts", ALL, false},
    {"by counts but for gate and up", ALL & ~GATE_UP, false},
    {"by tags", ALL, true},
};
#define N_CHAINS ((int)(sizeof chains / sizeof *chains))

typedef struct {
    vly_gpu_commands *layers[N_CHAINS]; /* NULL: cannot be chained so */
    vly_gpu_commands *mark[2];          /* time marks before and behind */
    double us[N_CHAINS][ROUNDS];
    uint8_t *xn; /* what the layers leave with barriers */
    bool differs[N_CHAINS];
} trial;

static uint64_t xn_bytes(const vly_model *m)
{
    uint64_t n_bytes = m->at.xn_stride * 16ull;
    return n_bytes < m->logits.n_bytes ? n_bytes : m->logits.n_bytes;
}

uint32_t vly_chain_links(const vly_model *m, uint32_t n)
{
    const vly_model_config *c = &m->config;
    const vly_act_layout *at = &m->at;
    if (!m->geometry.tile_form || at->qk_norms || at->post_norms) return 0;
    if (!m->geometry.tags) return n <= VLY_MAX_COUNTED ? m->geometry.links : 0;
    uint32_t most = at->att_stride;
    if (at->xn_stride > most) most = at->xn_stride;
    if (at->ff_stride > most) most = at->ff_stride;
    bool whole_units = c->dim % VLY_TILE_UNIT == 0 && c->ff_dim % VLY_TILE_UNIT == 0 &&
                       c->n_head * c->head_dim % VLY_TILE_UNIT == 0;
    bool fits = n <= VLY_MAX_FRESH && whole_units && n * most <= X_QUADS;
    return fits ? m->geometry.links : 0;
}

static void set_chain(vly_model *m, int kind)
{
    m->geometry.links = chains[kind].links;
    m->geometry.tags = chains[kind].tags;
}

/* The layers over a token; what they leave goes where the host reads logits. */
static int record_layers(vly_model *m, vly_gpu_commands *commands, vly_error *err)
{
    int rc = vly_forward_record(m, VLY_PASS_LAYERS, 1, commands, NULL, err);
    if (rc) return rc;
    vly_gpu_cmd_barrier(commands);
    vly_gpu_cmd_copy(commands, &m->act, m->at.xn * 16ull, &m->logits, 0, xn_bytes(m));
    return vly_gpu_commands_end(commands, err);
}

static int record(vly_model *m, trial *t, vly_error *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < N_CHAINS; i++) {
        set_chain(m, i);
        if (vly_chain_links(m, 1) != chains[i].links) continue;
        rc = vly_gpu_commands_create(m->gpu, "trial of chained steps", &t->layers[i], err);
        if (rc == 0) rc = record_layers(m, t->layers[i], err);
    }
    set_chain(m, 0);
    for (int i = 0; rc == 0 && i < 2; i++) rc = vly_gpu_mark_create(m->gpu, &t->mark[i], err);
    return rc;
}

/* Device time of the layers over one token, and whether they left what they do with barriers. */
static int run(vly_model *m, trial *t, int kind, int round, vly_error *err)
{
    vly_gpu_commands *const list[3] = {t->mark[0], t->layers[kind], t->mark[1]};
    uint64_t ticket, at[2] = {0, 0};
    int rc = vly_gpu_submit(m->gpu, list, 3, NULL, NULL, &ticket, err);
    if (rc == 0) rc = vly_gpu_wait(m->gpu, ticket, err);
    for (int i = 0; rc == 0 && i < 2; i++) rc = vly_gpu_commands_times(t->mark[i], 1, &at[i], err);
    t->us[kind][round] = (double)(at[1] - at[0]) * 1e-3;
    if (rc) return rc;
    if (kind == 0)
        memcpy(t->xn, m->logits.mapped, xn_bytes(m));
    else if (memcmp(t->xn, m->logits.mapped, xn_bytes(m)) != 0)
        t->differs[kind] = true;
    return 0;
}

static int run_all(vly_model *m, trial *t, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    step->n_tok = 1;
    step->token[0] = (struct vly_step_token){0};
    t->xn = malloc(xn_bytes(m));
    if (!t->xn) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to try chained steps");
    int rc = record(m, t, err);
    for (int i = 0; rc == 0 && i < N_CHAINS * ROUNDS && !step->stalled; i++)
        if (t->layers[i % N_CHAINS]) rc = run(m, t, i % N_CHAINS, i / N_CHAINS, err);
    return rc;
}

static void discard(const trial *t)
{
    for (int i = 0; i < N_CHAINS; i++) vly_gpu_commands_destroy(t->layers[i]);
    for (int i = 0; i < 2; i++) vly_gpu_commands_destroy(t->mark[i]);
    free(t->xn);
}

/* What a kind takes, barriers taking 1; infinitely much where it cannot be or does not work. */
static double share(const trial *t, int kind)
{
    double of[ROUNDS];
    if (!t->layers[kind] || t->differs[kind]) return INFINITY;
    for (int i = 0; i < ROUNDS; i++) of[i] = t->us[kind][i] / t->us[0][i];
    return vly_median(of, ROUNDS);
}

int vly_chain_choose(vly_model *m, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    trial t = {0};
    vly_kv_seq seq = {0};
    set_chain(m, 1);
    bool can = vly_chain_links(m, 1) && vly_gpu_get_info(m->gpu)->timestamp_ns > 0;
    set_chain(m, 0);
    if (!can) return 0;
    int rc = vly_kv_seq_init(m->kv, &seq, err);
    if (rc == 0) rc = vly_kv_reserve(&seq, 1, err);
    if (rc == 0) rc = run_all(m, &t, err);
    vly_kv_seq_deinit(&seq);
    discard(&t);
    if (rc) return rc;
    int best = 0;
    for (int i = 1; i < N_CHAINS && !step->stalled; i++) {
        double taken = share(&t, i);
        if (taken < share(&t, best)) best = i;
        vly_log(VLY_LOG_DEBUG, "model", "%s: layers with steps chained %s: %.2f of with barriers%s",
                m->config.name, chains[i].name, taken, t.differs[i] ? ": other bits" : "");
    }
    set_chain(m, best);
    vly_log(VLY_LOG_INFO, "model",
            "%s: layers over a token take %.0f us with barriers; chained%s: %s", m->config.name,
            t.us[0][ROUNDS - 1], step->stalled ? " (they stalled)" : "", chains[best].name);
    step->stalled = 0;
    return 0;
}

bool vly_model_stalled(const vly_model *m)
{
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++)
        if (((const struct vly_step *)m->step[i].mapped)->stalled) return true;
    return false;
}
