/* JSON objects by tables: one row for each field says its type, its range and where it goes. */
#ifndef VLY_SERVE_FIELDS_H
#define VLY_SERVE_FIELDS_H

#include "serve/api_error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

struct vly_field;

/* Reads `item`, which is not null, into the target; 0 or, with `err` filled, -1. */
typedef int (*vly_field_read)(const struct vly_field *field, const cJSON *item, void *target,
                              vly_api_error *err);

typedef struct vly_field {
    const char *name;
    unsigned where; /* a bit for each kind of object that has it */
    vly_field_read read;
    size_t offset; /* of what it sets in the target */
    double min, max;
} vly_field;

#define VLY_MAX_FIELDS 32

/* Reads those of the n <= VLY_MAX_FIELDS fields of `where` that `object` has, in the order of the
 * table; what is absent or null keeps its default, what the table does not know is left alone. */
int vly_fields_read(const vly_field *fields, size_t n, unsigned where, const cJSON *object,
                    void *target, vly_api_error *err);

/* The readers of plain values: bool, uint32_t, float. */
int vly_field_bool(const vly_field *field, const cJSON *item, void *target, vly_api_error *err);
int vly_field_count(const vly_field *field, const cJSON *item, void *target, vly_api_error *err);
int vly_field_real(const vly_field *field, const cJSON *item, void *target, vly_api_error *err);

/* Fails with "'name': expected EXPECTED, got ...". */
int vly_field_fail(const char *name, const char *expected, const cJSON *item, vly_api_error *err);

/* Is `item` a whole number in min..max? */
bool vly_json_is_whole(const cJSON *item, double min, double max);

#endif
