#include "spec/governor.h"

#include <math.h>

/* How much a figure from elsewhere counts, in blocks: the profile's in a sequence, that of the
 * position before in the profile. */
#define PROFILE_WEIGHT  6.0
#define POSITION_WEIGHT 4.0
/* Where a sequence begins to draft, all that the profile counted in earlier ones counts as so many
 * blocks at most: what the last texts were like tells more of the next one than all before them. */
#define EARLIER_WEIGHT 16.0f
/* A streak of first tokens accepted or lost that is less likely than this means that the text has
 * changed its kind: then what was counted before counts that much. */
#define STREAK_CHANCE 0.003
#define STREAK_KEEP   0.2f
/* What remains of a count after a block of the same arm. */
#define SEQUENCE_DECAY 0.96f
#define PROFILE_DECAY  0.995f

#define MARGIN       1.03 /* drafting must promise that much more than plain decoding */
#define KEEP         1.03 /* so much more must another length than that of blocks in flight */
#define HOPE         1.5  /* standard errors of acceptance that a probe may hope for */
#define MIN_INTERVAL 4    /* blocks between probes of an arm */
#define MAX_INTERVAL 128
#define READ_BLOCKS  32.0 /* blocks over which what the draft model has to read may pay */
#define MOST_CREDIT  8.0  /* probes can be saved up for, up to so many blocks' time */

/* Acceptance where nothing is known yet: on the low side of what pairs and texts show, so that the
 * first blocks of a bad draft cost little. */
static const double first_guess[VLY_N_ARMS] = {
    [VLY_ARM_NGRAM] = 0.35, [VLY_ARM_COPY] = 0.75, [VLY_ARM_MODEL] = 0.6, [VLY_ARM_TEXT] = 0.6};

void vly_governor_init(vly_governor *g, vly_profile *profile, bool sampled)
{
    *g = (vly_governor){.profile = profile, .sampled = sampled};
    for (int arm = 0; arm < VLY_N_ARMS; arm++) {
        g->interval[arm] = MIN_INTERVAL;
        g->trust[arm] = PROFILE_WEIGHT;
        g->doubt[arm] = 1;
    }
}

/* ---- expectations ---- */

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

static double mix(const vly_tally *tally, double prior, double weight)
{
    return ((double)tally->hits + weight * prior) / ((double)tally->tries + weight);
}

/* Fills a[0 .. k-1]: the chance that a drafted token is accepted once those before it were. */
static void estimate(const vly_governor *g, vly_arm arm, uint32_t k, double *a)
{
    const vly_tally *all = g->profile->accepted[g->sampled][arm];
    double before = first_guess[arm], shift = 0, lead = 0, model[VLY_MAX_DRAFT];
    /* It is the same model, whose text may be more acceptable than its tokens. */
    if (arm == VLY_ARM_TEXT) estimate(g, VLY_ARM_MODEL, k, model);
    for (uint32_t i = 0; i < k; i++) {
        if (arm == VLY_ARM_TEXT) before = clamp(model[i] + lead, 0, 1);
        double usual = mix(&all[i], before, POSITION_WEIGHT);
        /* A text whose first tokens are accepted more often than usual is easier behind, too. */
        double prior = clamp(usual + shift / 2, 0, 1);
        a[i] = clamp(mix(&g->accepted[arm][i], prior, g->trust[arm]), 0.005, 0.995);
        shift = a[i] - usual;
        if (arm == VLY_ARM_TEXT) lead = usual - model[i];
        before = usual;
    }
}

static double expect(const double *a, uint32_t k)
{
    double sum = 1, all = 1;
    for (uint32_t i = 0; i < k; i++) sum += all *= a[i];
    return sum;
}

double vly_governor_expect(const vly_governor *g, vly_arm arm, uint32_t k)
{
    double a[VLY_MAX_DRAFT];
    estimate(g, arm, k, a);
    return expect(a, k);
}

/* What reading on before the first proposal costs. */
static double read_ns(const vly_governor *g, vly_arm arm, const vly_governor_input *in)
{
    if (!vly_arm_by_model(arm) || in->behind <= VLY_USUALLY_FED) return 0;
    return (in->behind - VLY_USUALLY_FED) * g->profile->feed_ns;
}

/* Time of a block; 0 where it is not known. */
static double block_ns(const vly_governor *g, vly_arm arm, uint32_t k, const vly_governor_input *in)
{
    const vly_profile *p = g->profile;
    uint32_t n = in->beside_tok + 1 + k;
    double verify = n <= VLY_MAX_BATCH ? vly_profile_verify_ns(p, n) : 0;
    if (!(verify > 0) || (vly_arm_by_model(arm) && !(p->step_ns[arm] > 0))) return 0;
    return verify + vly_profile_overhead_ns(p, arm) + vly_profile_draft_ns(p, arm, k);
}

/* Waiting for the host, where another way than that of the blocks ahead is chosen. */
static double leave_ns(const vly_governor *g, vly_arm arm, const vly_governor_input *in)
{
    return in->ahead.n > 0 && arm != in->ahead.arm ? vly_profile_leave_ns(g->profile) : 0;
}

/* Tokens per ns of blocks that are expected to decide so many; 0 where their time is not known. */
static double score(const vly_governor *g, vly_arm arm, uint32_t k, const vly_governor_input *in,
                    double tokens)
{
    double ns = block_ns(g, arm, k, in), blocks = clamp(in->left / tokens, 1, READ_BLOCKS);
    if (!(ns > 0)) return 0;
    double once = read_ns(g, arm, in) + leave_ns(g, arm, in);
    return (in->beside_decided + tokens) / (ns + once / blocks);
}

/* The same of a block by n-grams that the text has to meet yet: with what the blocks ahead decide
 * it goes on as the n-grams have it by the chance `met`, else one more block like those comes. */
static double score_ahead(const vly_governor *g, vly_arm arm, uint32_t k,
                          const vly_governor_input *in, double tokens, double met)
{
    double ns = block_ns(g, arm, k, in), row_ns = block_ns(g, in->ahead.arm, in->ahead.k, in);
    double row = vly_governor_expect(g, in->ahead.arm, in->ahead.k);
    if (!(ns > 0) || !(row_ns > 0)) return 0;
    return (met * tokens + (1 - met) * row) /
           (met * ns + (1 - met) * row_ns + leave_ns(g, arm, in));
}

/* Of what n-grams propose, the tokens that blocks ahead are expected to decide. */
static uint32_t n_met_ahead(const vly_governor *g, vly_arm arm, const vly_governor_input *in)
{
    if (in->ahead.n == 0 || (arm != VLY_ARM_NGRAM && arm != VLY_ARM_COPY)) return 0;
    return (uint32_t)lround(in->ahead.n * vly_governor_expect(g, in->ahead.arm, in->ahead.k));
}

/* The best k of an arm by its score; with `hope`, if acceptance is that many standard errors above
 * its estimate. */
static vly_decision best_of_arm(const vly_governor *g, vly_arm arm, const vly_governor_input *in,
                                double hope)
{
    double a[VLY_MAX_DRAFT];
    vly_decision best = {.arm = arm};
    uint32_t k_max = in->k_max[arm] < VLY_MAX_DRAFT ? in->k_max[arm] : VLY_MAX_DRAFT;
    uint32_t n_met = n_met_ahead(g, arm, in);
    double tokens = 1, all = 1, met = 1;
    if (arm == VLY_ARM_NONE) return (vly_decision){.arm = arm, .score = score(g, arm, 0, in, 1)};
    estimate(g, arm, k_max, a);
    for (uint32_t i = 0; i < k_max && hope > 0; i++) {
        double tries = (double)g->accepted[arm][i].tries + g->trust[arm];
        a[i] = clamp(a[i] + hope * sqrt(a[i] * (1 - a[i]) / tries), 0, 0.99);
    }
    for (uint32_t i = 0; i < n_met && i < k_max; i++) met *= a[i];
    for (uint32_t k = 1; n_met + k <= k_max; k++) {
        tokens += all *= a[n_met + k - 1];
        double s =
            n_met > 0 ? score_ahead(g, arm, k, in, tokens, met) : score(g, arm, k, in, tokens);
        if (s > best.score) best = (vly_decision){.arm = arm, .k = k, .score = s};
    }
    return best;
}

/* ---- the choice ---- */

/* Is the arm worth a probe now? N-grams need none: what they would have proposed is known for
 * nothing. The model is worth one where it might be the best with some luck, and of its lengths
 * the probe takes the one that loses least: each tells of the others. */
static bool should_probe(const vly_governor *g, vly_arm arm, const vly_governor_input *in,
                         const vly_decision *best, vly_decision *probe)
{
    const vly_profile *p = g->profile;
    if (!vly_arm_by_model(arm) || in->k_max[arm] == 0 || g->idle[arm] < g->interval[arm])
        return false;
    if (best_of_arm(g, arm, in, HOPE).score < best->score * MARGIN) return false;
    *probe = best_of_arm(g, arm, in, 0);
    double gain = (in->beside_decided + vly_governor_expect(g, arm, probe->k)) / best->score;
    double loss = block_ns(g, arm, probe->k, in) + read_ns(g, arm, in) + 2 * leave_ns(g, arm, in) -
                  gain; /* and to come back */
    probe->score = best->score;
    probe->probe = true;
    return loss <= 0 || p->probe_ns + loss <= VLY_PROBE_SHARE * p->elapsed_ns;
}

vly_decision vly_governor_choose(vly_governor *g, const vly_governor_input *in)
{
    vly_decision best = best_of_arm(g, VLY_ARM_NONE, in, 0), probe;
    if (!(best.score > 0)) return best; /* nothing was measured yet */
    double plain = best.score * MARGIN;
    for (vly_arm arm = 1; arm < VLY_N_ARMS; arm++) {
        vly_decision d = best_of_arm(g, arm, in, 0);
        if (d.score > plain && d.score > best.score) best = d;
    }
    for (vly_arm arm = 1; arm < VLY_N_ARMS; arm++)
        if (arm != best.arm && should_probe(g, arm, in, &best, &probe)) return probe;
    return best;
}

bool vly_governor_keeps(vly_governor *g, const vly_governor_input *in)
{
    vly_arm arm = in->ahead.arm;
    vly_decision d = vly_governor_choose(g, in);
    if (d.probe || d.arm != arm) return false;
    double now = score(g, arm, in->ahead.k, in, vly_governor_expect(g, arm, in->ahead.k));
    return d.k == in->ahead.k || d.score <= KEEP * now;
}

/* ---- learning ---- */

static void decay(vly_tally *tally, float keep)
{
    for (uint32_t i = 0; i < VLY_MAX_DRAFT; i++) {
        tally[i].tries *= keep;
        tally[i].hits *= keep;
    }
}

/* Before the first blocks of a sequence are counted in the profile's. */
static void forget_earlier(vly_tally *tally)
{
    if (tally[0].tries > EARLIER_WEIGHT) decay(tally, EARLIER_WEIGHT / tally[0].tries);
}

/* Notices that the text is of another kind than what the estimates come from. */
static void watch_streak(vly_governor *g, vly_arm arm, bool hit)
{
    double a = vly_governor_expect(g, arm, 1) - 1;
    if (g->hit[arm] != hit) g->doubt[arm] = 1;
    g->hit[arm] = hit;
    g->doubt[arm] *= hit ? a : 1 - a;
    g->trust[arm] = clamp(g->trust[arm] * 1.05, 0, PROFILE_WEIGHT);
    if (g->doubt[arm] > STREAK_CHANCE) return;
    decay(g->accepted[arm], STREAK_KEEP);
    g->trust[arm] *= (double)STREAK_KEEP;
    g->doubt[arm] = 1;
}

void vly_governor_watch(vly_governor *g, vly_arm arm, uint32_t i, bool hit)
{
    vly_tally *own = g->accepted[arm], *all = g->profile->accepted[g->sampled][arm];
    if (i == 0) {
        watch_streak(g, arm, hit);
        if (own[0].tries == 0) forget_earlier(all);
        decay(own, SEQUENCE_DECAY);
        decay(all, PROFILE_DECAY);
    }
    own[i].tries += 1;
    own[i].hits += hit;
    all[i].tries += 1;
    all[i].hits += hit;
}

void vly_governor_learn(vly_governor *g, const vly_decision *d, const vly_outcome *o)
{
    vly_profile *p = g->profile;
    vly_arm arm = o->n_drafted ? d->arm : VLY_ARM_NONE;
    double ns = o->wall_ns + o->read_ns;
    for (int i = 0; i < VLY_N_ARMS; i++) g->idle[i]++;
    if (o->n_read > 0) vly_profile_add_time(&p->feed_ns, o->read_ns / o->n_read);
    double most = p->probe_ns + MOST_CREDIT * p->verify_ns;
    p->elapsed_ns += ns;
    if (p->elapsed_ns * VLY_PROBE_SHARE > most) p->elapsed_ns = most / VLY_PROBE_SHARE;
    if (d->probe && d->score > 0) {
        double loss = ns + vly_profile_leave_ns(p) - (o->n_accepted + 1) / d->score;
        if (loss > 0) p->probe_ns += loss;
        g->idle[d->arm] = 0;
        uint32_t *interval = &g->interval[d->arm];
        if (o->n_drafted > 0 && o->n_accepted == o->n_drafted)
            *interval = 1;
        else if (*interval < MAX_INTERVAL)
            *interval *= 2;
    }
    if (arm == VLY_ARM_NONE) return;
    for (uint32_t i = 0; i < o->n_drafted && i <= o->n_accepted; i++)
        vly_governor_watch(g, arm, i, i < o->n_accepted);
    g->idle[arm] = 0;
    if (!d->probe) g->interval[arm] = MIN_INTERVAL;
}
