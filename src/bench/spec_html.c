/* The page of bench spec: charts as inline SVG, the facts, the tables. No scripts, nothing from
 * elsewhere. */
#include "bench/spec.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* ---- names ---- */

/* "int8, T 0.7, model": what is common to the configurations that differ in k alone. */
static void group_name(const vly_spec *s, const vly_spec_config *c, char *out, size_t n)
{
    snprintf(out, n, "%sT %g%s%s",
             s->options->kvs.len < 2 ? ""
             : c->kv_f16             ? "f16, "
                                     : "int8, ",
             (double)c->temperature, s->options->methods.len > 1 ? ", " : "",
             s->options->methods.len > 1 ? vly_spec_method_name(c) : "");
}

/* "int8, T 0.7, model, k 4", "int8, T 0.7, auto": a configuration. */
static void config_name(const vly_spec *s, const vly_spec_config *c, char *out, size_t n)
{
    group_name(s, c, out, n);
    size_t len = strlen(out);
    if (c->k != VLY_SPEC_AUTO)
        snprintf(out + len, n - len, ", k %u", c->k);
    else if (s->options->methods.len < 2)
        snprintf(out + len, n - len, ", auto");
}

static bool same_group(const vly_spec_config *a, const vly_spec_config *b)
{
    return a->base == b->base && a->method == b->method && b->k != VLY_SPEC_AUTO;
}

/* ---- charts ---- */

#define WIDTH       720
#define HEIGHT      320
#define LEFT        52
#define RIGHT       170
#define TOP         12
#define BOTTOM      40
#define LEGEND_LINE 18

static const char *const colours[] = {"#2b6cb0", "#c05621", "#2f855a", "#805ad5",
                                      "#b83280", "#0f766e", "#a16207", "#475569"};
#define N_COLOURS (sizeof colours / sizeof *colours)

typedef struct {
    FILE *f;
    double max_x, max_y;
    size_t n_series;
} chart;

static double at_x(const chart *c, double x)
{
    return LEFT + x / c->max_x * (WIDTH - LEFT - RIGHT);
}

static double at_y(const chart *c, double y)
{
    return TOP + (1 - y / c->max_y) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten: about five steps up to `max`. */
static double tick_of(double max)
{
    double unit = pow(10, floor(log10(max / 5))), n = max / 5 / unit;
    return unit * (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10);
}

/* With a legend of at most n_series lines. */
static void begin_chart(chart *c, size_t n_series, const char *label_x, const char *label_y)
{
    size_t legend = TOP + LEGEND_LINE * n_series;
    FILE *f = c->f;
    double tick = tick_of(c->max_y);
    c->max_y = ceil(c->max_y / tick) * tick;
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s by %s\">\n", WIDTH,
            legend > HEIGHT ? (int)legend : HEIGHT, label_y, label_x);
    for (double y = 0; y <= c->max_y + tick / 2; y += tick)
        fprintf(f,
                "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, WIDTH - RIGHT, at_y(c, y), at_y(c, y), LEFT - 6, at_y(c, y) + 4, y);
    for (double x = 0; x <= c->max_x; x++)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", at_x(c, x),
                HEIGHT - BOTTOM + 16, x);
    fprintf(f,
            "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>"
            "<text transform=\"translate(13 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
            at_x(c, c->max_x / 2), HEIGHT - 6, label_x, (HEIGHT - BOTTOM + TOP) / 2, label_y);
}

/* Points with figures that are known, joined; whiskers where there is an interval. */
static void put_series(chart *c, const char *name, const double *x, const vly_spec_figure *y,
                       size_t n)
{
    const char *colour = colours[c->n_series % N_COLOURS];
    FILE *f = c->f;
    fprintf(f, "<g stroke=\"%s\" fill=\"%s\"><polyline fill=\"none\" stroke-width=\"2\" points=\"",
            colour, colour);
    for (size_t i = 0; i < n; i++)
        if (isfinite(y[i].value))
            fprintf(f, "%.1f,%.1f ", at_x(c, x[i]), at_y(c, fmin(y[i].value, c->max_y)));
    fputs("\"/>", f);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(y[i].value)) continue;
        if (isfinite(y[i].low) && isfinite(y[i].high))
            fprintf(f, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", at_x(c, x[i]),
                    at_x(c, x[i]), at_y(c, fmax(y[i].low, 0)), at_y(c, fmin(y[i].high, c->max_y)));
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", at_x(c, x[i]),
                at_y(c, fmin(y[i].value, c->max_y)));
        vly_report_html_text(f, name);
        fprintf(f, ", %g: %.3f</title></circle>", x[i], y[i].value);
    }
    size_t row = TOP + 14 + LEGEND_LINE * c->n_series++;
    fprintf(f,
            "<circle cx=\"%d\" cy=\"%zu\" r=\"5\"/>"
            "<text stroke=\"none\" x=\"%d\" y=\"%zu\">",
            WIDTH - RIGHT + 14, row - 4, WIDTH - RIGHT + 25, row);
    vly_report_html_text(f, name);
    fputs("</text></g>\n", f);
}

/* Of each group, the speed-up by k; where the governor chose k, a dashed line. */
static void put_speed_ups(const vly_spec *s, FILE *f)
{
    chart c = {.f = f, .max_x = 1, .max_y = 1};
    for (size_t i = 0; i < s->n_configs; i++) {
        vly_spec_figure y = vly_spec_speed_up(s, i);
        double top = isfinite(y.high) ? fmin(y.high, 2 * y.value) : y.value;
        if (s->configs[i].k != VLY_SPEC_AUTO) c.max_x = fmax(c.max_x, s->configs[i].k);
        if (isfinite(top)) c.max_y = fmax(c.max_y, top);
    }
    begin_chart(&c, s->n_configs, "drafted tokens of a block (k)", "speed-up");
    fprintf(f, "<line class=\"one\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
            WIDTH - RIGHT, at_y(&c, 1), at_y(&c, 1));
    for (size_t i = 0; i < s->n_configs; i++) {
        const vly_spec_config *config = &s->configs[i];
        double x[VLY_MAX_DRAFT + 1] = {0};
        vly_spec_figure y[VLY_MAX_DRAFT + 1] = {{1, NAN, NAN}};
        char name[96];
        size_t n = 1;
        group_name(s, config, name, sizeof name);
        if (config->k == VLY_SPEC_AUTO) {
            double value = vly_spec_speed_up(s, i).value;
            if (!isfinite(value)) continue;
            config_name(s, config, name, sizeof name);
            snprintf(name + strlen(name), sizeof name - strlen(name), ": %.2f", value);
            fprintf(f,
                    "<line stroke=\"%s\" stroke-dasharray=\"5 4\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" "
                    "y2=\"%.1f\"><title>",
                    colours[c.n_series % N_COLOURS], LEFT, WIDTH - RIGHT, at_y(&c, value),
                    at_y(&c, value));
            vly_report_html_text(f, name);
            fputs("</title></line>", f);
            put_series(&c, name, x, y, 0);
            continue;
        }
        if (config->k == 0 || (i > 0 && same_group(config, &s->configs[i - 1]))) continue;
        for (size_t j = i; j < s->n_configs && same_group(config, &s->configs[j]); j++)
            if (n <= VLY_MAX_DRAFT) {
                x[n] = s->configs[j].k;
                y[n++] = vly_spec_speed_up(s, j);
            }
        put_series(&c, name, x, y, n);
    }
    fputs("</svg>\n", f);
}

/* Of each group, the acceptance by position where the most tokens were drafted. */
static void put_positions(const vly_spec *s, FILE *f)
{
    chart c = {.f = f, .max_x = 1, .max_y = 1};
    for (size_t i = 0; i < s->n_configs; i++)
        for (int j = 0; j < VLY_MAX_DRAFT; j++)
            if (vly_spec_sum(s, i).drafted_at[j] > 0) c.max_x = fmax(c.max_x, j + 1);
    begin_chart(&c, s->n_configs, "position in the proposal", "accepted of those drafted there");
    for (size_t i = 0; i < s->n_configs; i++) {
        const vly_spec_config *config = &s->configs[i];
        bool widest = config->k > 0;
        for (size_t j = 0; j < s->n_configs && widest; j++)
            if (same_group(config, &s->configs[j]) && s->configs[j].k > config->k) widest = false;
        if (!widest) continue;
        vly_spec_cell sum = vly_spec_sum(s, i);
        double x[VLY_MAX_DRAFT];
        vly_spec_figure y[VLY_MAX_DRAFT];
        char name[96];
        for (int j = 0; j < VLY_MAX_DRAFT; j++) {
            x[j] = j + 1;
            y[j] = (vly_spec_figure){
                sum.drafted_at[j] > 0 ? sum.accepted_at[j] / sum.drafted_at[j] : NAN, NAN, NAN};
        }
        config_name(s, config, name, sizeof name);
        put_series(&c, name, x, y, VLY_MAX_DRAFT);
    }
    fputs("</svg>\n", f);
}

/* A bar for each configuration: what became of its drafted tokens. */
static void put_lost(const vly_spec *s, FILE *f)
{
    static const struct {
        const char *name, *colour;
    } parts[] = {{"accepted", "#2f855a"},
                 {"not the target's pick", "#c05621"},
                 {"unmapped", "#b83280"},
                 {"split", "#805ad5"},
                 {"behind one of those", "#d69e2e"},
                 {"behind the end", "#718096"}};
    enum { N_PARTS = sizeof parts / sizeof *parts, N_ABREAST = 3, FIRST = 44 };
    _Static_assert(N_PARTS == 1 + VLY_N_LOST, "accepted, and lost for each reason");
    size_t n = 0, row = 0;
    for (size_t i = 0; i < s->n_configs; i++) n += s->configs[i].k > 0;
    fprintf(f, "<svg viewBox=\"0 0 %d %zu\" role=\"img\" aria-label=\"lost by reason\">\n", WIDTH,
            20 * n + FIRST + 4);
    for (size_t i = 0; i < N_PARTS; i++)
        fprintf(f,
                "<rect x=\"%zu\" y=\"%zu\" width=\"11\" height=\"11\" fill=\"%s\"/>"
                "<text x=\"%zu\" y=\"%zu\">%s</text>\n",
                170 + 180 * (i % N_ABREAST), 4 + 18 * (i / N_ABREAST), parts[i].colour,
                186 + 180 * (i % N_ABREAST), 14 + 18 * (i / N_ABREAST), parts[i].name);
    for (size_t i = 0; i < s->n_configs; i++) {
        const vly_spec_config *config = &s->configs[i];
        vly_spec_cell sum = vly_spec_sum(s, i);
        char name[96];
        double x = 170;
        if (config->k == 0) continue;
        config_name(s, config, name, sizeof name);
        size_t y = FIRST + 20 * row++;
        fprintf(f, "<text x=\"162\" y=\"%zu\" text-anchor=\"end\">", y + 12);
        vly_report_html_text(f, name);
        fputs("</text>", f);
        for (int j = 0; j < N_PARTS && sum.drafted > 0; j++) {
            double n_tok = j ? sum.lost[j - 1] : sum.accepted;
            double width = n_tok / sum.drafted * (WIDTH - 180);
            fprintf(f,
                    "<rect x=\"%.1f\" y=\"%zu\" width=\"%.1f\" height=\"15\" fill=\"%s\">"
                    "<title>%s: %.0f of %.0f</title></rect>",
                    x, y, width, parts[j].colour, parts[j].name, n_tok, sum.drafted);
            x += width;
        }
        fputc('\n', f);
    }
    fputs("</svg>\n", f);
}

/* ---- the page ---- */

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>Volley: bench spec</title>\n"
    "<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a202c;background:#fff}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}\n"
    "svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#1a202c}\n"
    ".grid{stroke:#e2e8f0}.one{stroke:#718096}\n"
    "table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}"
    "td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #e2e8f0;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}\n"
    ".warning{background:#fef3c7;color:#1a202c;padding:.5rem 1rem}\n"
    "@media(prefers-color-scheme:dark){body{color:#e2e8f0;background:#1a202c}"
    "svg text{fill:#e2e8f0}.grid{stroke:#2d3748}td,th{border-color:#2d3748}}\n"
    "</style></head><body>\n";

int vly_spec_write_html(const vly_spec *s, const vly_report *report, const char *path,
                        vly_error *err)
{
    FILE *f = fopen(path, "w");
    if (!f) return vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno));
    fputs(head, f);
    fputs("<h1>Speculation on ", f);
    vly_report_html_text(f, vly_engine_get_info(s->engine)->device_name);
    fputs("</h1>\n", f);
    if (s->options->accept > 0)
        fprintf(f,
                "<p class=\"warning\">The mean accepted length is forced to %g: the texts written "
                "are worthless, and acceptance is not the draft's.</p>\n",
                s->options->accept);
    vly_report_html_facts(report, f);
    fputs("<h2>Speed-up over plain decoding</h2>\n", f);
    put_speed_ups(s, f);
    fputs("<h2>Acceptance by position</h2>\n", f);
    put_positions(s, f);
    fputs("<h2>What became of drafted tokens</h2>\n", f);
    put_lost(s, f);
    vly_report_html_tables(report, f);
    fputs("</body></html>\n", f);
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0) failed = true;
    return failed ? vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno)) : 0;
}
