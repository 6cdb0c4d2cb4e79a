/* The figures of bench spec and their tables. */
#include "bench/spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *vly_spec_method_name(const vly_spec_config *c)
{
    const char *name = vly_draft_method_name(c->method);
    return c->k == 0 ? "plain" : c->k == VLY_SPEC_AUTO ? "auto" : name ? name : "model";
}

/* ---- figures ---- */

static const vly_spec_figure unknown = {NAN, NAN, NAN};

/* The ratio of two sums over prompts. `y` and `x` take a cell to what is summed. */
static vly_spec_figure ratio(const vly_spec *s, size_t config, double (*y)(const vly_spec_cell *),
                             double (*x)(const vly_spec_cell *))
{
    size_t n = s->prompts.n;
    double *values = malloc(2 * n * sizeof *values), sum_y = 0, sum_x = 0;
    if (!values) return unknown;
    for (size_t i = 0; i < n; i++) {
        const vly_spec_cell *cell = vly_spec_cell_of(s, config, i);
        sum_y += values[i] = y(cell);
        sum_x += values[n + i] = x(cell);
    }
    vly_spec_figure f = {sum_x > 0 ? sum_y / sum_x : NAN, NAN, NAN};
    if (sum_x > 0) vly_ratio_interval(values, values + n, n, &f.low, &f.high);
    if (f.low < 0) f.low = 0; /* of few prompts */
    free(values);
    return f;
}

static double tokens(const vly_spec_cell *cell)
{
    return cell->tokens;
}

static double seconds(const vly_spec_cell *cell)
{
    return cell->ms * 1e-3;
}

static double decided(const vly_spec_cell *cell)
{
    return cell->blocks + cell->accepted;
}

static double blocks(const vly_spec_cell *cell)
{
    return cell->blocks;
}

static vly_spec_figure rate_of(const vly_spec *s, size_t config)
{
    return ratio(s, config, tokens, seconds);
}

static vly_spec_figure length_of(const vly_spec *s, size_t config)
{
    return ratio(s, config, decided, blocks);
}

static vly_spec_figure speed_up_against(const vly_spec *s, size_t config, size_t other)
{
    size_t n = 0;
    double *logs = malloc(s->prompts.n * sizeof *logs), sum = 0;
    if (!logs) return unknown;
    for (size_t i = 0; i < s->prompts.n; i++) {
        const vly_spec_cell *with = vly_spec_cell_of(s, config, i);
        const vly_spec_cell *without = vly_spec_cell_of(s, other, i);
        double speed_up = with->tokens / with->ms / (without->tokens / without->ms);
        if (!isfinite(speed_up) || speed_up <= 0) continue;
        sum += logs[n++] = log(speed_up);
    }
    vly_spec_figure f = {n ? exp(sum / (double)n) : NAN, NAN, NAN};
    vly_mean_interval(logs, n, &f.low, &f.high);
    f.low = exp(f.low);
    f.high = exp(f.high);
    free(logs);
    return f;
}

vly_spec_figure vly_spec_speed_up(const vly_spec *s, size_t config)
{
    return speed_up_against(s, config, s->configs[config].base);
}

/* Prompts without text have none. */
static vly_spec_figure rule_mean(const vly_spec *s, size_t temperature, vly_spec_rule rule)
{
    const double *all = s->rules + (temperature * VLY_N_RULES + rule) * s->prompts.n;
    double *values = malloc(s->prompts.n * sizeof *values), sum = 0;
    size_t n = 0;
    if (!values) return unknown;
    for (size_t p = 0; p < s->prompts.n; p++)
        if (!isnan(all[p])) sum += values[n++] = all[p];
    vly_spec_figure f = {n ? sum / (double)n : NAN, NAN, NAN};
    vly_mean_interval(values, n, &f.low, &f.high);
    if (f.low < 0) f.low = 0; /* of few prompts; it is a probability */
    if (f.high > 1) f.high = 1;
    free(values);
    return f;
}

vly_spec_cell vly_spec_sum(const vly_spec *s, size_t config)
{
    vly_spec_cell sum = {0};
    for (size_t i = 0; i < s->prompts.n; i++) {
        const double *from = (const double *)vly_spec_cell_of(s, config, i);
        double *to = (double *)&sum;
        for (size_t j = 0; j < sizeof sum / sizeof *to; j++) to[j] += from[j];
    }
    return sum;
}

/* ---- tables ---- */

#define WHICH                                                                                      \
    {"temperature", 2}, {"k", 0},                                                                  \
    {                                                                                              \
        "kv_bits", 0                                                                               \
    }

static const vly_column row_columns[] = {
    WHICH,
    {"tokens_per_s", 1},
    {"rate_low", 1},
    {"rate_high", 1},
    {"speed_up", 3},
    {"gain_low", 3},
    {"gain_high", 3},
    {"mean_length", 3},
    {"length_low", 3},
    {"length_high", 3},
    {"acceptance", 3},
    {"first", 3},
};
static const vly_column lost_columns[] = {
    WHICH,           {"drafted", 0}, {"accepted", 0},   {"not_the_pick", 0},
    {"unmapped", 0}, {"split", 0},   {"behind_one", 0}, {"behind_end", 0},
};
static const vly_column position_columns[] = {
    {"temperature", 2}, {"1", 3},  {"2", 3},  {"3", 3},  {"4", 3},  {"5", 3},
    {"6", 3},           {"7", 3},  {"8", 3},  {"9", 3},  {"10", 3}, {"11", 3},
    {"12", 3},          {"13", 3}, {"14", 3}, {"15", 3}, {"16", 3},
};
static const vly_column rule_columns[] = {
    {"temperature", 2},
    {"first", 4},
    {"low", 4},
    {"high", 4},
};
static const vly_column category_columns[] = {
    WHICH, {"prompts", 0}, {"tokens_per_s", 1}, {"speed_up", 3}, {"mean_length", 3},
};
#define N(columns) (sizeof(columns) / sizeof *(columns))
_Static_assert(N(position_columns) == 1 + VLY_MAX_DRAFT, "a column for each position");

static void put_which(const vly_spec_config *c, double *values)
{
    values[0] = (double)c->temperature;
    values[1] = c->k == VLY_SPEC_AUTO ? NAN : c->k;
    values[2] = c->kv_f16 ? 16 : 8;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

static void report_rows(const vly_spec *s, vly_report *report)
{
    vly_report_table(report, "rows", "method", row_columns, N(row_columns));
    for (size_t c = 0; c < s->n_configs; c++) {
        vly_spec_figure rate = rate_of(s, c), gain = vly_spec_speed_up(s, c);
        vly_spec_figure length = length_of(s, c);
        vly_spec_cell sum = vly_spec_sum(s, c);
        double values[N(row_columns)] = {0,
                                         0,
                                         0,
                                         rate.value,
                                         rate.low,
                                         rate.high,
                                         gain.value,
                                         gain.low,
                                         gain.high,
                                         length.value,
                                         length.low,
                                         length.high,
                                         share(sum.accepted, sum.drafted),
                                         share(sum.accepted_at[0], sum.drafted_at[0])};
        put_which(&s->configs[c], values);
        if (s->configs[c].k == 0) values[7] = values[8] = NAN;
        vly_report_row(report, vly_spec_method_name(&s->configs[c]), values);
    }
}

static void report_lost(const vly_spec *s, vly_report *report)
{
    vly_report_table(report, "lost", "method", lost_columns, N(lost_columns));
    for (size_t c = 0; c < s->n_configs; c++) {
        vly_spec_cell sum = vly_spec_sum(s, c);
        double values[N(lost_columns)] = {0, 0, 0, sum.drafted, sum.accepted};
        memcpy(values + N(lost_columns) - VLY_N_LOST, sum.lost, sizeof sum.lost);
        put_which(&s->configs[c], values);
        if (s->configs[c].k) vly_report_row(report, vly_spec_method_name(&s->configs[c]), values);
    }
}

static void report_positions(const vly_spec *s, vly_report *report)
{
    vly_report_table(report, "by_position", "method", position_columns, N(position_columns));
    for (size_t c = 0; c < s->n_configs; c++) {
        const vly_spec_config *config = &s->configs[c];
        vly_spec_cell sum = vly_spec_sum(s, c);
        double values[N(position_columns)] = {(double)config->temperature};
        char label[64];
        for (int i = 0; i < VLY_MAX_DRAFT; i++)
            values[i + 1] = share(sum.accepted_at[i], sum.drafted_at[i]);
        if (config->k == VLY_SPEC_AUTO)
            snprintf(label, sizeof label, "auto, %s", config->kv_f16 ? "f16" : "int8");
        else
            snprintf(label, sizeof label, "%s, k %u, %s", vly_spec_method_name(config), config->k,
                     config->kv_f16 ? "f16" : "int8");
        if (config->k) vly_report_row(report, label, values);
    }
}

static void report_rules(const vly_spec *s, vly_report *report)
{
    static const char *const names[VLY_N_RULES] = {"keyed noise", "rejection sampling",
                                                   "greedy draft"};
    const vly_reals *t = &s->options->temperatures;
    if (!s->rules) return;
    vly_report_table(report, "rules", "rule", rule_columns, N(rule_columns));
    for (size_t i = 0; i < t->len; i++)
        for (int rule = 0; rule < VLY_N_RULES && t->data[i] > 0; rule++) {
            vly_spec_figure f = rule_mean(s, i, (vly_spec_rule)rule);
            vly_report_row(report, names[rule],
                           (double[N(rule_columns)]){t->data[i], f.value, f.low, f.high});
        }
}

/* The fastest way of each group, by category. */
static void report_categories(const vly_spec *s, vly_report *report)
{
    vly_report_table(report, "categories", "category", category_columns, N(category_columns));
    for (size_t base = 0; base < s->n_configs; base++) {
        if (s->configs[base].base != base) continue;
        size_t best = base;
        for (size_t c = base; c < s->n_configs && s->configs[c].base == base; c++)
            if (vly_spec_speed_up(s, c).value > vly_spec_speed_up(s, best).value) best = c;
        for (size_t p = 0; p < s->prompts.n; p++) {
            const char *category = s->prompts.items[p].category;
            vly_spec_cell with = {0}, without = {0};
            double n = 0;
            bool seen = false;
            for (size_t i = 0; i < s->prompts.n; i++) {
                if (strcmp(s->prompts.items[i].category, category) != 0) continue;
                if (i < p) seen = true;
                const vly_spec_cell *a = vly_spec_cell_of(s, best, i);
                const vly_spec_cell *b = vly_spec_cell_of(s, base, i);
                with.tokens += a->tokens;
                with.ms += a->ms;
                with.blocks += a->blocks;
                with.accepted += a->accepted;
                without.tokens += b->tokens;
                without.ms += b->ms;
                n++;
            }
            double rate = share(with.tokens, with.ms);
            double values[N(category_columns)] = {0,
                                                  0,
                                                  0,
                                                  n,
                                                  1000 * rate,
                                                  rate / share(without.tokens, without.ms),
                                                  share(decided(&with), with.blocks)};
            put_which(&s->configs[best], values);
            if (!seen) vly_report_row(report, category, values);
        }
    }
}

typedef struct {
    char data[64];
} text;

/* "0.950 (0.900 to 1.000)", without the interval where one prompt gives none. */
static text figure_text(vly_spec_figure figure)
{
    text out;
    int n = snprintf(out.data, sizeof out.data, "%.3f", figure.value);
    if (!isnan(figure.low))
        snprintf(out.data + n, sizeof out.data - (size_t)n, " (%.3f to %.3f)", figure.low,
                 figure.high);
    return out;
}

/* What the governor reached of the best fixed k. */
static void note_governor(const vly_spec *s, vly_report *report)
{
    for (size_t c = 0; c < s->n_configs; c++) {
        const vly_spec_config *config = &s->configs[c];
        size_t best = config->base;
        if (config->k != VLY_SPEC_AUTO) continue;
        for (size_t i = best; i < c; i++)
            if (s->configs[i].base == config->base && s->configs[i].method != VLY_DRAFT_AUTO &&
                vly_spec_speed_up(s, i).value > vly_spec_speed_up(s, best).value)
                best = i;
        vly_spec_figure of_best = speed_up_against(s, c, best), of_plain = vly_spec_speed_up(s, c);
        vly_report_note(report,
                        "temperature %g, %s: auto reaches %s of the best fixed way (%s, k = %u) "
                        "and %s of plain decoding",
                        (double)config->temperature, config->kv_f16 ? "f16" : "int8",
                        figure_text(of_best).data, vly_spec_method_name(&s->configs[best]),
                        s->configs[best].k, figure_text(of_plain).data);
    }
}

void vly_spec_report(const vly_spec *s, vly_report *report)
{
    const vly_engine_info *info = vly_engine_get_info(s->engine);
    vly_report_fact(report, "volley", VLY_VERSION);
    vly_report_fact(report, "device", info->device_name);
    vly_report_fact(report, "model", info->target_name);
    vly_report_fact(report, "draft", info->draft_name ? info->draft_name : "none");
    vly_report_fact(report, "template", s->templated ? "of the model" : "none");
    vly_report_number(report, "prompts", (double)s->prompts.n, 0);
    vly_report_number(report, "left_out", (double)s->n_left_out, 0);
    vly_report_number(report, "max_tokens", s->options->n_tokens, 0);
    vly_report_number(report, "seeds", s->options->n_seeds, 0);
    if (s->options->accept > 0) vly_report_number(report, "forced_length", s->options->accept, 3);
    report_rows(s, report);
    report_lost(s, report);
    report_positions(s, report);
    report_rules(s, report);
    report_categories(s, report);
    if (s->options->accept > 0)
        vly_report_note(report, "the accepted length is forced: the texts written are worthless");
    else
        vly_report_note(report, "all texts are those of plain decoding, token by token");
    note_governor(s, report);
    if (!s->templated) vly_report_note(report, "prompts as they are: %s", s->untemplated.message);
    if (s->n_left_out)
        vly_report_note(report, "%zu prompt%s left out: longer than the context has room for",
                        s->n_left_out, vly_plural(s->n_left_out));
    vly_report_note(report, "low, high: 95%% confidence intervals over prompts, by Student's t: of "
                            "sums' ratios (tokens/s, length), and, paired, of the mean logarithm "
                            "of the speed-ups, whose geometric mean speed_up is");
    vly_report_note(report, "mean_length: tokens that a block decides; acceptance: accepted of all "
                            "drafted tokens; first: of the first of each block; k: - is auto");
    if (s->rules)
        vly_report_note(report, "rules: how probable it is that a first drafted token is accepted, "
                                "at the positions of texts that the target sampled; exact for each "
                                "position, the mean over prompts");
}
