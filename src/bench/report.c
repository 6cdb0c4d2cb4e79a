#include "bench/report.h"

#include "base/vec.h"
#include "cli/cli.h"
#include "cli/json_fields.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FACTS  24
#define MAX_TABLES 8
#define MAX_SHOWN  40 /* characters of a label in text */
#define MAX_NOTES  80 /* one for each figure that may be left out, and those of the bench */

typedef struct {
    char name[32], *text;
    bool is_number;
} fact;

typedef struct {
    char *label, *shown; /* as it is, and as a terminal is to see it */
    int width;           /* of the latter */
    double values[VLY_REPORT_MAX_COLUMNS];
} row;

typedef struct {
    const char *name, *label;
    const vly_column *columns;
    size_t n_columns;
    row *rows;
    size_t n_rows;
} table;

struct vly_report {
    const char *bench;
    fact facts[MAX_FACTS];
    size_t n_facts;
    table tables[MAX_TABLES];
    size_t n_tables;
    char *notes[MAX_NOTES];
    size_t n_notes;
    bool no_memory;
};

vly_report *vly_report_create(const char *bench)
{
    vly_report *report = calloc(1, sizeof *report);
    if (report) report->bench = bench;
    return report;
}

void vly_report_destroy(vly_report *report)
{
    if (!report) return;
    for (size_t i = 0; i < report->n_facts; i++) free(report->facts[i].text);
    for (size_t i = 0; i < report->n_notes; i++) free(report->notes[i]);
    for (size_t i = 0; i < report->n_tables; i++) {
        const table *t = &report->tables[i];
        for (size_t j = 0; j < t->n_rows; j++) {
            free(t->rows[j].label);
            free(t->rows[j].shown);
        }
        free(t->rows);
    }
    free(report);
}

static void add_fact(vly_report *report, const char *name, const char *text, bool is_number)
{
    char *copy = report->n_facts < MAX_FACTS ? strdup(text) : NULL;
    if (!copy) {
        report->no_memory = true;
        return;
    }
    fact *f = &report->facts[report->n_facts++];
    *f = (fact){.text = copy, .is_number = is_number};
    snprintf(f->name, sizeof f->name, "%s", name);
}

void vly_report_fact(vly_report *report, const char *name, const char *text)
{
    add_fact(report, name, text, false);
}

void vly_report_number(vly_report *report, const char *name, double value, int decimals)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", decimals, value);
    if (isfinite(value)) add_fact(report, name, text, true);
}

void vly_report_note(vly_report *report, const char *format, ...)
{
    char *note = NULL;
    va_list args;
    va_start(args, format);
    if (report->n_notes == MAX_NOTES || vasprintf(&note, format, args) < 0)
        report->no_memory = true;
    else
        report->notes[report->n_notes++] = note;
    va_end(args);
}

void vly_report_table(vly_report *report, const char *name, const char *label,
                      const vly_column *columns, size_t n_columns)
{
    if (report->n_tables == MAX_TABLES || n_columns > VLY_REPORT_MAX_COLUMNS) {
        report->no_memory = true;
        return;
    }
    report->tables[report->n_tables++] = (table){name, label, columns, n_columns, NULL, 0};
}

/* Cuts `text`, UTF-8, behind MAX_SHOWN characters; returns how many there are then. */
static int cut_shown(char *text)
{
    static const char more[] = "...";
    int n = 0;
    for (char *at = text; *at; at++) {
        if (((unsigned char)*at & 0xc0) == 0x80) continue; /* not the first byte of one */
        if (n++ < MAX_SHOWN) continue;
        if (strlen(at) < sizeof more - 1) return n + (int)sizeof more - 2;
        strcpy(at, more);
        return MAX_SHOWN + (int)sizeof more - 1;
    }
    return n;
}

void vly_report_row(vly_report *report, const char *label, const double *values)
{
    table *t = &report->tables[report->n_tables - 1];
    row *rows = realloc(t->rows, (t->n_rows + 1) * sizeof *rows);
    if (rows) t->rows = rows;
    row r = {strdup(label), vly_cli_printable((vly_bytes){label, strlen(label)}), 0, {0}};
    if (!rows || !r.label || !r.shown) {
        free(r.label);
        free(r.shown);
        report->no_memory = true;
        return;
    }
    r.width = cut_shown(r.shown);
    memcpy(r.values, values, t->n_columns * sizeof *values);
    rows[t->n_rows++] = r;
}

bool vly_report_has_rows(const vly_report *report)
{
    for (size_t i = 0; i < report->n_tables; i++)
        if (report->tables[i].n_rows > 0) return true;
    return false;
}

/* ---- Text ---- */

static void print_cell(FILE *file, const vly_column *column, double value, int width)
{
    if (isnan(value))
        fprintf(file, "%*s", width, "-");
    else
        fprintf(file, "%*.*f", width, column->decimals, value);
}

static int cell_width(const table *t, size_t column)
{
    int width = (int)strlen(t->columns[column].name);
    for (size_t i = 0; i < t->n_rows; i++) {
        int n = snprintf(NULL, 0, "%.*f", t->columns[column].decimals, t->rows[i].values[column]);
        if (n > width) width = n;
    }
    return width;
}

static void print_table(FILE *file, const table *t)
{
    int label = (int)strlen(t->label);
    for (size_t i = 0; i < t->n_rows; i++)
        if (t->rows[i].width > label) label = t->rows[i].width;
    int widths[VLY_REPORT_MAX_COLUMNS];
    fprintf(file, "\n%*s", label, t->label);
    for (size_t j = 0; j < t->n_columns; j++) {
        widths[j] = cell_width(t, j);
        fprintf(file, "  %*s", widths[j], t->columns[j].name);
    }
    fputc('\n', file);
    for (size_t i = 0; i < t->n_rows; i++) {
        fprintf(file, "%*s%s", label - t->rows[i].width, "", t->rows[i].shown);
        for (size_t j = 0; j < t->n_columns; j++) {
            fputs("  ", file);
            print_cell(file, &t->columns[j], t->rows[i].values[j], widths[j]);
        }
        fputc('\n', file);
    }
}

/* Names in it may be anything. */
static void print_line(FILE *file, const char *text)
{
    char *shown = vly_cli_printable((vly_bytes){text, strlen(text)});
    fprintf(file, "%s\n", shown ? shown : "");
    free(shown);
}

static void print_text(FILE *file, const vly_report *report)
{
    for (size_t i = 0; i < report->n_facts; i++) {
        fprintf(file, "%-20s ", report->facts[i].name);
        print_line(file, report->facts[i].text);
    }
    for (size_t i = 0; i < report->n_tables; i++) print_table(file, &report->tables[i]);
    if (report->n_notes) fputc('\n', file);
    for (size_t i = 0; i < report->n_notes; i++) print_line(file, report->notes[i]);
}

/* ---- CSV ---- */

static void print_csv_text(FILE *file, const char *text)
{
    bool plain = !strpbrk(text, ",\"\r\n");
    if (!plain) fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    if (!plain) fputc('"', file);
}

static void print_csv_table(FILE *file, const vly_report *report, const table *t)
{
    fputs("bench,table", file);
    for (size_t i = 0; i < report->n_facts; i++) fprintf(file, ",%s", report->facts[i].name);
    fprintf(file, ",%s", t->label);
    for (size_t j = 0; j < t->n_columns; j++) fprintf(file, ",%s", t->columns[j].name);
    fputc('\n', file);
    for (size_t i = 0; i < t->n_rows; i++) {
        fprintf(file, "%s,%s", report->bench, t->name);
        for (size_t j = 0; j < report->n_facts; j++) {
            fputc(',', file);
            print_csv_text(file, report->facts[j].text);
        }
        fputc(',', file);
        print_csv_text(file, t->rows[i].label);
        for (size_t j = 0; j < t->n_columns; j++) {
            fputc(',', file);
            if (!isnan(t->rows[i].values[j]))
                fprintf(file, "%.*f", t->columns[j].decimals, t->rows[i].values[j]);
        }
        fputc('\n', file);
    }
}

static void print_csv(FILE *file, const vly_report *report)
{
    for (size_t i = 0; i < report->n_tables; i++) {
        if (i) fputc('\n', file);
        print_csv_table(file, report, &report->tables[i]);
    }
}

/* ---- JSON ---- */

static char *to_json(const vly_report *report)
{
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_name(json, "bench", report->bench);
    for (size_t i = 0; i < report->n_facts; i++) {
        const fact *f = &report->facts[i];
        if (f->is_number)
            cJSON_AddRawToObject(json, f->name, f->text);
        else
            vly_cli_json_add_name(json, f->name, f->text);
    }
    for (size_t i = 0; i < report->n_tables; i++) {
        const table *t = &report->tables[i];
        cJSON *rows = cJSON_AddArrayToObject(json, t->name);
        for (size_t j = 0; j < t->n_rows; j++) {
            cJSON *object = cJSON_CreateObject();
            vly_cli_json_add_name(object, t->label, t->rows[j].label);
            for (size_t k = 0; k < t->n_columns; k++)
                vly_cli_json_add_real(object, t->columns[k].name, t->rows[j].values[k],
                                      t->columns[k].decimals);
            cJSON_AddItemToArray(rows, object);
        }
    }
    cJSON *notes = cJSON_AddArrayToObject(json, "notes");
    for (size_t i = 0; i < report->n_notes; i++) {
        char *utf8 = vly_cli_utf8((vly_bytes){report->notes[i], strlen(report->notes[i])});
        cJSON_AddItemToArray(notes, cJSON_CreateString(utf8 ? utf8 : ""));
        free(utf8);
    }
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

/* ---- HTML ---- */

void vly_report_html_text(FILE *file, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<'   ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '&' ? "&amp;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (entity)
            fputs(entity, file);
        else
            fputc(*text, file);
    }
}

void vly_report_html_facts(const vly_report *report, FILE *file)
{
    fputs("<table>\n", file);
    for (size_t i = 0; i < report->n_facts; i++) {
        fputs("<tr><td>", file);
        vly_report_html_text(file, report->facts[i].name);
        fputs("</td><td>", file);
        vly_report_html_text(file, report->facts[i].text);
        fputs("</td></tr>\n", file);
    }
    fputs("</table>\n", file);
}

static void print_html_table(const table *t, FILE *file)
{
    fprintf(file, "<h2>%s</h2>\n<table><tr><th>%s</th>", t->name, t->label);
    for (size_t j = 0; j < t->n_columns; j++) fprintf(file, "<th>%s</th>", t->columns[j].name);
    fputs("</tr>\n", file);
    for (size_t i = 0; i < t->n_rows; i++) {
        fputs("<tr><td>", file);
        vly_report_html_text(file, t->rows[i].label);
        for (size_t j = 0; j < t->n_columns; j++) {
            fputs("</td><td>", file);
            print_cell(file, &t->columns[j], t->rows[i].values[j], 0);
        }
        fputs("</td></tr>\n", file);
    }
    fputs("</table>\n", file);
}

void vly_report_html_tables(const vly_report *report, FILE *file)
{
    for (size_t i = 0; i < report->n_tables; i++) print_html_table(&report->tables[i], file);
    for (size_t i = 0; i < report->n_notes; i++) {
        fputs("<p>", file);
        vly_report_html_text(file, report->notes[i]);
        fputs("</p>\n", file);
    }
}

/* ---- Files ---- */

int vly_report_check_path(const char *path, vly_error *err)
{
    if (!path || strcmp(path, "-") == 0) return 0;
    FILE *file = fopen(path, "a");
    if (!file) return vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno));
    fclose(file);
    return 0;
}

typedef enum { TEXT, CSV, JSON } format;

static int print(const vly_report *report, format as, const char *path, vly_error *err)
{
    char *json = as == JSON ? to_json(report) : NULL;
    if (report->no_memory || (as == JSON && !json)) {
        cJSON_free(json);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the report");
    }
    bool is_stdout = strcmp(path, "-") == 0;
    FILE *file = is_stdout ? stdout : fopen(path, "w");
    if (!file) {
        cJSON_free(json);
        return vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno));
    }
    if (json)
        fprintf(file, "%s\n", json);
    else if (as == CSV)
        print_csv(file, report);
    else
        print_text(file, report);
    cJSON_free(json);
    bool failed = ferror(file) != 0;
    if (!is_stdout && fclose(file) != 0) failed = true;
    return failed ? vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno)) : 0;
}

int vly_report_write(const vly_report *report, const char *csv, const char *json, vly_error *err)
{
    bool quiet = (csv && strcmp(csv, "-") == 0) || (json && strcmp(json, "-") == 0);
    int rc = quiet ? 0 : print(report, TEXT, "-", err);
    if (rc == 0 && csv) rc = print(report, CSV, csv, err);
    if (rc == 0 && json) rc = print(report, JSON, json, err);
    return rc;
}
