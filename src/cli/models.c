/* volley models: what there is to run, and with --for what would do as a draft. */
#include "cli/cli.h"
#include "cli/json_fields.h"
#include "cli/model_table.h"
#include "cli/option_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What coverage is measured on without --text: prose, speech, names, figures, other languages, a
 * list and code, as models are asked for. */
static const char sample_text[] =
    "The harbour was quiet that evening. Two fishing boats lay against the wall, their ropes dark "
    "with rain, and somewhere behind the warehouses a radio was playing. \"You're late,\" said Mrs "
    "Okafor, without looking up from her ledger. \"The 6:45 didn't stop at Grenoble,\" he "
    "answered. "
    "She turned a page; there were 1,284 entries for March, of which 37 had never been paid.\n\n"
    "Why does bread rise? Yeast cells eat sugars in the flour and give off carbon dioxide, which "
    "the gluten holds in small bubbles. At about 60 \xc2\xb0"
    "C the cells die and the crumb sets.\n\n"
    "- d\xc3\xa9j\xc3\xa0 vu, na\xc3\xafve, \xc3\xbc"
    "ber, ma\xc3\xb1"
    "ana\n- \xe4\xbd\xa0\xe5\xa5\xbd, \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82\n\n"
    "def mean(values):\n    if not values:\n        return 0.0\n"
    "    return sum(values) / len(values)\n";

typedef struct {
    bool json;
    const char *target, *text; /* --for; the sample's file */
    const char *arch;          /* a description's file */
    vly_text sample;
} options;

#define AT(field) offsetof(options, field)
static const vly_option_row rows[] = {
    {1, 0, "for", NULL, "TARGET", &vly_option_text, AT(target), 0, 0,
     "tell of each model how it would do as a draft for TARGET, a file or a name; best first"},
    {1, 0, "text", NULL, "FILE", &vly_option_text, AT(text), 0, 0,
     "the sample text for that, '-' being standard input (one of prose, lists and code)"},
    {1, 0, "arch", NULL, "FILE", &vly_option_text, AT(arch), 0, 0, VLY_HELP_ARCH},
    {1, 0, "json", NULL, NULL, &vly_option_flag, AT(json), 0, 0,
     "print one JSON object: models, and with --for target and of each model draft"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

static const char intro[] =
    "usage: volley models [--for TARGET [--text FILE]] [--arch FILE] [--json]\n\n"
    "Lists the models that are found; -m and -d take their names. Looked at are the\n"
    "folder $VOLLEY_MODELS, the shipped models, and Ollama's store: $OLLAMA_MODELS,\n"
    "~/.ollama/models and its system service's folder.\n\n"
    "With --for, of each model: its parameters against the target's, the tokens that\n"
    "the target has too, which only it can propose, the share of the sample's bytes\n"
    "and tokens that these make up, and the weights that a step of it reads against\n"
    "those of a step of the target: what a step costs, about.\n\n";

/* ---- judging ---- */

/* The share of the sample's tokens that can be proposed. */
static double coverage(const vly_draft_fit *fit)
{
    return fit->text_tokens ? (double)fit->mapped_tokens / (double)fit->text_tokens : 0;
}

static double cost(const vly_draft_fit *fit)
{
    return (double)fit->draft_step_bytes / (double)fit->target_step_bytes;
}

/* Fills in how the model would do as a draft; *verdict and why. */
static void judge(vly_cli_model *m)
{
    enum { K = 4 }; /* tokens drafted in a block */
    const vly_draft_fit *fit = &m->fit;
    char *why = m->why;
    size_t n = sizeof m->why;
    double c = cost(fit), covered = coverage(fit), even = 1 + K * c;
    if (c >= 1) {
        m->verdict = VLY_DRAFT_UNFIT;
        snprintf(why, n, "a step of it reads as much as one of the target, or more");
    } else if (covered < 0.7) {
        m->verdict = VLY_DRAFT_POOR;
        snprintf(why, n, "it could propose only %.0f%% of the text's tokens", 100 * covered);
    } else if (c > 0.4) {
        m->verdict = VLY_DRAFT_POOR;
        snprintf(why, n, "its steps are dear: %d of them pay from a mean accepted length of %.2f",
                 K, even);
    } else {
        m->verdict = c <= 0.15 && covered >= 0.9 ? VLY_DRAFT_GOOD : VLY_DRAFT_FAIR;
        snprintf(why, n, "%s; %d steps of it pay from a mean accepted length of %.2f",
                 fit->identity    ? "the same vocabulary"
                 : covered >= 0.9 ? "it can propose nearly everything"
                                  : "parts of the text it cannot propose",
                 K, even);
    }
}

/* Compares a model that Volley runs with the target. */
static int compare(vly_cli_model *m, const vly_cli_target *target, const vly_text *sample,
                   vly_error *err)
{
    vly_error problem = {0};
    if (m->problem.code) {
        m->verdict = VLY_DRAFT_UNFIT;
        snprintf(m->why, sizeof m->why, "Volley does not run it");
        return 0;
    }
    if (m->device == target->device && m->inode == target->inode) {
        m->verdict = VLY_DRAFT_UNFIT;
        snprintf(m->why, sizeof m->why, "it is the target itself");
        return 0;
    }
    int rc = vly_cli_model_fit(m, target, sample->data, sample->len, &problem);
    if (rc == VLY_E_HOST_MEMORY) return vly_fail(err, rc, "%s", problem.message);
    if (rc == 0) {
        m->has_fit = true;
        judge(m);
        return 0;
    }
    m->verdict = VLY_DRAFT_UNFIT;
    snprintf(m->why, sizeof m->why, "%s",
             rc == VLY_E_DRAFT ? "it shares no tokens with the target" : problem.message);
    return 0;
}

/* Best first: by verdict, then by cost. */
static int by_fit(const void *a, const void *b)
{
    const vly_cli_model *x = a, *y = b;
    if (x->verdict != y->verdict) return (int)x->verdict - (int)y->verdict;
    if (!x->has_fit || !y->has_fit) return y->has_fit - x->has_fit;
    return (cost(&x->fit) > cost(&y->fit)) - (cost(&x->fit) < cost(&y->fit));
}

/* ---- the command ---- */

static int read_sample(options *o, vly_error *err)
{
    if (!o->text)
        return vly_text_append(&o->sample, sample_text, sizeof sample_text - 1)
                   ? vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the sample text")
                   : 0;
    int rc = vly_cli_read_text(o->text, &o->sample, err);
    if (rc == 0 && o->sample.len == 0)
        rc = vly_fail(err, VLY_E_INVALID, "%s: expected a sample text, got nothing", o->text);
    return rc;
}

static int describe_all(const options *o, const vly_store_list *list, const vly_arch *arch,
                        const vly_cli_target *target, vly_cli_model *models, vly_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->n; i++) {
        vly_cli_model_read(&list->entries[i], arch, &models[i]);
        if (target) rc = compare(&models[i], target, &o->sample, err);
    }
    if (rc == 0 && target) qsort(models, list->n, sizeof *models, by_fit);
    return rc;
}

static int list_models(options *o, vly_error *err)
{
    vly_store_list list = {0};
    vly_cli_target target = {0};
    vly_cli_model *models = NULL;
    vly_arch described = {0};
    const vly_arch *arch = o->arch ? &described : NULL;
    const vly_cli_target *shown = o->target ? &target : NULL;
    int rc = o->target ? read_sample(o, err) : 0;
    if (rc == 0 && arch) rc = vly_arch_read(o->arch, &described, err);
    if (rc == 0 && o->target) rc = vly_cli_target_open(o->target, arch, &target, err);
    if (rc == 0) rc = vly_store_list_all(&list, err);
    if (rc == 0 && !(models = calloc(list.n + 1, sizeof *models)))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the list of models");
    if (rc == 0) rc = describe_all(o, &list, arch, shown, models, err);
    if (rc == 0 && o->json) rc = vly_cli_models_print_json(models, list.n, shown, err);
    if (rc == 0 && !o->json) vly_cli_models_print(models, list.n, shown);
    free(models);
    vly_cli_target_close(&target);
    vly_store_list_deinit(&list);
    return rc;
}

int vly_cli_models(int argc, char **argv)
{
    options o = {0};
    const options default_values = {0};
    vly_option_table table = {.rows = rows,
                              .n_rows = sizeof rows / sizeof *rows,
                              .command = 1,
                              .intro = intro,
                              .default_values = &default_values};
    int status = vly_option_table_parse(&table, argc, argv, &o);
    if (!status && o.text && !o.target)
        status = vly_cli_usage_error(argv[0], "option '--text' needs '--for' besides");
    vly_error err;
    if (!status && list_models(&o, &err)) status = vly_cli_fail(&err);
    vly_text_free(&o.sample);
    return status < 0 ? 0 : status;
}
