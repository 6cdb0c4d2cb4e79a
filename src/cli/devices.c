/* volley devices: what there is to run on, and which of it would be taken. */
#include "cli/cli.h"
#include "gpu/gpu.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void print_help(void)
{
    printf("usage: volley devices [OPTION...]\n\n"
           "Lists the Vulkan devices; a star marks the one that would be taken.\n\n"
           "      --device D       a number of the list, or a part of a name: choose this one\n"
           "      --json           print {\"chosen\":number,\"devices\":[...]}\n"
           "  -h, --help           show this help\n");
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

static void add_text(cJSON *object, const char *name, const char *text)
{
    char *utf8 = vly_cli_utf8((vly_bytes){text, strlen(text)});
    cJSON_AddStringToObject(object, name, utf8 ? utf8 : "");
    free(utf8);
}

static cJSON *device_to_json(const vly_gpu_info *info)
{
    cJSON *device = cJSON_CreateObject();
    cJSON_AddNumberToObject(device, "index", info->index);
    add_text(device, "name", info->name);
    cJSON_AddBoolToObject(device, "usable", info->usable);
    if (!info->usable) {
        add_text(device, "why_not", info->why_not);
        return device;
    }
    char version[32];
    snprintf(version, sizeof version, "%u.%u.%u", info->api_version >> 22 & 0x7f,
             info->api_version >> 12 & 0x3ff, info->api_version & 0xfff);
    add_text(device, "driver", info->driver);
    add_text(device, "vulkan", version);
    add_text(device, "type", type_names[info->type]);
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
    char *text = cJSON_PrintUnformatted(all);
    cJSON_Delete(all);
    if (!text) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to print %zu devices", n);
    printf("%s\n", text);
    cJSON_free(text);
    return 0;
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

int vly_cli_devices(int argc, char **argv)
{
    enum { DEVICE = 256, JSON };
    static const struct option options[] = {{"device", required_argument, NULL, DEVICE},
                                            {"json", no_argument, NULL, JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *choice = NULL;
    bool json = false;
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        switch (got) {
        case DEVICE:
            choice = optarg;
            break;
        case JSON:
            json = true;
            break;
        case 'h':
            print_help();
            return 0;
        default:
            return vly_cli_option_error(argv[0], got, argv);
        }
    }
    if (optind < argc)
        return vly_cli_usage_error(argv[0], "unexpected argument '%s'", argv[optind]);
    vly_error err;
    return list(choice, json, &err) ? vly_cli_fail(&err) : 0;
}
