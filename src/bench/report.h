/* What a bench found: facts about the run, tables, notes; printed as text, CSV, JSON or
 * HTML. */
#ifndef VLY_BENCH_REPORT_H
#define VLY_BENCH_REPORT_H

#include "base/error.h"
#include "base/stats.h"

#include <stdio.h>

typedef struct vly_report vly_report;

/* The first column of a table is text, whose name is the table's `label`; the others are numbers.
 */
typedef struct {
    const char *name; /* "gpu_ms": a key in JSON and CSV, the head of the column in text */
    int decimals;
} vly_column;

#define VLY_REPORT_MAX_COLUMNS 20

/* NULL without memory. */
vly_report *vly_report_create(const char *bench);
void vly_report_destroy(vly_report *report);

/* What is too much for memory is left out, and printing then fails. Strings are copied, but those
 * of columns. */
void vly_report_fact(vly_report *report, const char *name, const char *text);
void vly_report_number(vly_report *report, const char *name, double value, int decimals);
void vly_report_note(vly_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Begins a table; rows go to the last one begun. */
void vly_report_table(vly_report *report, const char *name, const char *label,
                      const vly_column *columns, size_t n_columns);
/* `values` [n_columns]; NAN where there is none. */
void vly_report_row(vly_report *report, const char *label, const double *values);

/* Is there anything but facts and notes? */
bool vly_report_has_rows(const vly_report *report);

/* Can a report be written to this file (NULL: none), which is made if it is not there? So that no
 * measurement is lost at its end. VLY_E_IO. */
int vly_report_check_path(const char *path, vly_error *err);

/* Prints the report as a command that was given these files (NULL: none, "-": standard output)
 * does: as text, unless a file is standard output, and to the files. CSV has a line of names for
 * each table, every line starting with the bench, the table, and the facts that tell runs apart.
 * VLY_E_IO, VLY_E_HOST_MEMORY. */
int vly_report_write(const vly_report *report, const char *csv, const char *json, vly_error *err);

/* Parts of a page: the facts as a table; the tables with their names as heads, and the notes. */
void vly_report_html_facts(const vly_report *report, FILE *file);
void vly_report_html_tables(const vly_report *report, FILE *file);
/* `text` so that it means itself in HTML. */
void vly_report_html_text(FILE *file, const char *text);

#endif
