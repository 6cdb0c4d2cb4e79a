/* volley devices: what there is to run on, and which of it would be taken. */
#include "cli/cli.h"
#include "cli/json_fields.h"
#include "cli/option_table.h"
#include "gpu/gpu.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB(n_bytes) ((double)(n_bytes) / 1048576.0)

static const char *const type_names[] = {[VLY_GPU_DISCRETE] = "discrete",
                                         [VLY_GPU_INTEGRATED] = "integrated",
                                         [VLY_GPU_VIRTUAL] = "virtual",
                                         [VLY_GPU_CPU] = "processor",
                                         [VLY_GPU_OTHER] = "other"};

/* The capabilities that decide which kernels run. */
static const struct {
    const char *name;
    size_t offset;
} features[] = {
    {"int8_dot", offsetof(vly_gpu_info, int8_dot)},
    {"f16", offsetof(vly_gpu_info, f16)},
    {"int64", offsetof(vly_gpu_info, int64)},
    {"coop_matrix", offsetof(vly_gpu_info, coop_matrix)},
    {"subgroup_size_control", offsetof(vly_gpu_info, subgroup_size_control)},
    {"memory_budget", offsetof(vly_gpu_info, memory_budget)},
    {"unified", offsetof(vly_gpu_info, unified)},
};
#define N_FEATURES (sizeof features / sizeof features[0])

static bool has(const vly_gpu_info *info, size_t feature)
{
    return *(const bool *)((const char *)info + features[feature].offset);
}

static void print_device(const vly_gpu_info *info, bool is_chosen)
{
    printf("%c %u  %s\n", is_chosen ? '*' : ' ', info->index, info->name);
    if (!info->usable) {
        printf("     cannot be used: %s\n", info->why_not);
        return;
    }
    printf("     driver    %s, Vulkan %u.%u.%u\n", info->driver, info->api_version >> 22 & 0x7f,
           info->api_version >> 12 & 0x3ff, info->api_version & 0xfff);
    printf("     type      %s\n", type_names[info->type]);
    printf("     memory    %.1f MiB, available %.1f MiB\n", MIB(info->memory_bytes),
           MIB(info->available_bytes));
    printf("     features  subgroups of %u", info->subgroup_size);
    if (info->subgroup_size_min != info->subgroup_size_max)
        printf(" (%u to %u)", info->subgroup_size_min, info->subgroup_size_max);
    for (size_t i = 0; i < N_FEATURES; i++)
        if (has(info, i)) printf(", %s", features[i].name);
    printf("\n");
}

static cJSON *device_to_json(const vly_gpu_info *info)
{
    cJSON *device = cJSON_CreateObject();
    cJSON_AddNumberToObject(device, "index", info->index);
    vly_cli_json_add_name(device, "name", info->name);
    cJSON_AddBoolToObject(device, "usable", info->usable);
    if (!info->usable) {
        vly_cli_json_add_name(device, "why_not", info->why_not);
        return device;
    }
    char version[32];
    snprintf(version, sizeof version, "%u.%u.%u", info->api_version >> 22 & 0x7f,
             info->api_version >> 12 & 0x3ff, info->api_version & 0xfff);
    vly_cli_json_add_name(device, "driver", info->driver);
    vly_cli_json_add_name(device, "vulkan", version);
    vly_cli_json_add_name(device, "type", type_names[info->type]);
    cJSON_AddNumberToObject(device, "memory_bytes", (double)info->memory_bytes);
    cJSON_AddNumberToObject(device, "available_bytes", (double)info->available_bytes);
    cJSON_AddNumberToObject(device, "max_buffer_bytes", (double)info->max_buffer_bytes);
    cJSON_AddNumberToObject(device, "subgroup_size", info->subgroup_size);
    cJSON *list = cJSON_AddObjectToObject(device, "features");
    for (size_t i = 0; i < N_FEATURES; i++)
        cJSON_AddBoolToObject(list, features[i].name, has(info, i));
    return device;
}

static int print_json(const vly_gpu_info *infos, size_t n, int chosen, vly_error *err)
{
    cJSON *all = cJSON_CreateObject();
    if (chosen >= 0)
        cJSON_AddNumberToObject(all, "chosen", infos[chosen].index);
    else
        cJSON_AddNullToObject(all, "chosen");
    cJSON *devices = cJSON_AddArrayToObject(all, "devices");
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(devices, device_to_json(&infos[i]));
    return vly_cli_json_print(all, err);
}

static int list(const char *choice, bool json, vly_error *err)
{
    vly_gpu_info *infos;
    size_t n;
    int chosen;
    int rc = vly_gpu_list(&infos, &n, &chosen, err);
    if (rc) return rc;
    if (choice) rc = vly_gpu_choose(infos, n, choice, &chosen, err);
    if (!rc && json) rc = print_json(infos, n, chosen, err);
    for (size_t i = 0; !rc && !json && i < n; i++) print_device(&infos[i], (int)i == chosen);
    free(infos);
    return rc;
}

typedef struct {
    const char *choice;
    bool json;
} options;

#define AT(field) offsetof(options, field)
static const vly_option_row rows[] = {
    {1, 0, "device", NULL, "D", &vly_option_text, AT(choice), 0, 0,
     "a number of the list, or a part of a name: choose this one"},
    {1, 0, "json", NULL, NULL, &vly_option_flag, AT(json), 0, 0,
     "print {\"chosen\":number,\"devices\":[...]}"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

int vly_cli_devices(int argc, char **argv)
{
    options o = {0};
    const vly_option_table table = {
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .command = 1,
        .intro = "usage: volley devices [OPTION...]\n\n"
                 "Lists the Vulkan devices; a star marks the one that would be taken.\n\n",
        .default_values = &(options){0}};
    int status = vly_option_table_parse(&table, argc, argv, &o);
    vly_error err;
    if (!status && list(o.choice, o.json, &err)) status = vly_cli_fail(&err);
    return status < 0 ? 0 : status;
}
