/* volley bench load: from a file on disk to the first token. Each start is a process of its own,
 * forked before any driver is loaded, so that its peak of memory is its own and drivers start anew.
 */
#include "bench/bench.h"

#include "base/clock.h"
#include "gguf/synthetic.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_REPEAT 100
#define MIB         1048576.0
#define POLL_MS     50

/* What a start tells, through a pipe. */
typedef struct {
    int rc;
    vly_error err;
    char device[256], driver[256], clocks[128], target[128], draft[128];
    double open_ms, weights_ms, ready_ms; /* until weights flow; while they do; until the token */
    uint64_t weights_bytes, host_peak_bytes, host_bytes, device_peak_bytes;
} start_result;

/* ---- In the process that starts ---- */

typedef struct {
    uint64_t first_ns, last_ns, bytes;
} upload_times;

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    upload_times *t = arg;
    if (done == 0) return 0;
    t->last_ns = vly_clock_ns();
    if (t->first_ns == 0) t->first_ns = t->last_ns;
    t->bytes = total;
    return 0;
}

/* Memory of this process that is no file's, now. */
static uint64_t own_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    unsigned long long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) break;
    if (file) fclose(file);
    return kib * 1024;
}

static int write_token(vly_engine *engine, bool draft, vly_error *err)
{
    uint32_t prompt[2] = {0, 1};
    vly_sequence *sequence;
    vly_request request = {.prompt_tokens = prompt,
                           .n_prompt_tokens = 2,
                           .max_tokens = 1,
                           .ignore_end = true,
                           .sampling = vly_sampling_default(),
                           .draft_max = draft ? 4 : 0};
    request.sampling.temperature = 0;
    int rc = vly_engine_start(engine, &request, &sequence, NULL, NULL, err);
    return rc ? rc : vly_engine_run(engine, err);
}

static int start(const vly_bench_options *o, start_result *out)
{
    upload_times upload = {0};
    vly_engine_options options = {.target = o->target,
                                  .draft = o->draft,
                                  .device = o->device,
                                  .arch = o->arch,
                                  .n_parallel = 1,
                                  .kv_f16 = o->kv_f16,
                                  .progress = on_progress,
                                  .progress_arg = &upload};
    uint64_t begin_ns = vly_clock_ns();
    vly_engine *engine;
    int rc = vly_engine_create(&options, &engine, &out->err);
    if (rc) return rc;
    rc = write_token(engine, o->draft != NULL, &out->err);
    out->ready_ms = (double)(vly_clock_ns() - begin_ns) * 1e-6;
    out->open_ms = (double)(upload.first_ns - begin_ns) * 1e-6;
    out->weights_ms = (double)(upload.last_ns - upload.first_ns) * 1e-6;
    out->weights_bytes = upload.bytes;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    out->host_peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    out->host_bytes = own_bytes();
    out->device_peak_bytes = vly_gpu_peak_bytes(vly_engine_gpu(engine));
    const vly_gpu_info *info = vly_gpu_get_info(vly_engine_gpu(engine));
    snprintf(out->device, sizeof out->device, "%s", info->name);
    snprintf(out->driver, sizeof out->driver, "%s", info->driver);
    vly_bench_clocks(info, out->clocks, sizeof out->clocks);
    const vly_engine_info *models = vly_engine_get_info(engine);
    snprintf(out->target, sizeof out->target, "%s", models->target_name);
    if (models->draft_name) snprintf(out->draft, sizeof out->draft, "%s", models->draft_name);
    vly_engine_destroy(engine); /* writes the cache of pipelines */
    return rc;
}

/* ---- In the process that measures ---- */

static int run_start(const vly_bench_options *o, const char *cache, start_result *out,
                     vly_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return vly_fail(err, VLY_E_IO, "pipe: %s", strerror(errno));
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return vly_fail(err, VLY_E_IO, "fork: %s", strerror(errno));
    }
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Volley's cache and those of drivers. */
        setenv("XDG_CACHE_HOME", cache, 1);
        setenv("MESA_SHADER_CACHE_DIR", cache, 1);
        setenv("__GL_SHADER_DISK_CACHE_PATH", cache, 1);
        *out = (start_result){0};
        out->rc = start(o, out);
        bool written = write(ends[1], out, sizeof *out) == (ssize_t)sizeof *out;
        _exit(written ? 0 : 1);
    }
    close(ends[1]);
    struct pollfd ready = {.fd = ends[0], .events = POLLIN};
    while (!vly_bench_interrupted() && poll(&ready, 1, POLL_MS) <= 0) continue;
    if (vly_bench_interrupted()) kill(child, SIGKILL); /* it may take long */
    size_t got = 0;
    for (ssize_t n; got < sizeof *out; got += (size_t)n) {
        n = read(ends[0], (char *)out + got, sizeof *out - got);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            break;
    }
    close(ends[0]);
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (vly_bench_interrupted()) return vly_fail(err, VLY_E_CANCELLED, "interrupted");
    if (got < sizeof *out)
        return vly_fail(err, VLY_E_IO, "the start that was measured ended early (status 0x%x)",
                        (unsigned)status);
    return out->rc ? vly_fail(err, out->rc, "%s", out->err.message) : 0;
}

/* The file of a model, opened; -1 where there is none. */
static int open_model(const char *name)
{
    vly_store_model model;
    if (vly_synthetic_is(name) || vly_store_find(name, &model, NULL)) return -1;
    int fd = open(model.path, O_RDONLY | O_CLOEXEC);
    vly_store_model_deinit(&model);
    return fd;
}

/* The part of the model's file that lies in memory, in percent; NAN where that cannot be told. With
 * `drop` the system is asked to forget it first. */
static double cached_percent(const char *name, bool drop)
{
    struct stat st;
    double percent = NAN;
    int fd = open_model(name);
    if (fd < 0) return NAN;
    if (drop) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        size_t n = (size_t)st.st_size, n_pages = (n + page - 1) / page, n_in = 0;
        void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        unsigned char *in = malloc(n_pages);
        if (map != MAP_FAILED && in && mincore(map, n, in) == 0) {
            for (size_t i = 0; i < n_pages; i++) n_in += in[i] & 1;
            percent = 100.0 * (double)n_in / (double)n_pages;
        }
        free(in);
        if (map != MAP_FAILED) munmap(map, n);
    }
    close(fd);
    return percent;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

/* ---- The report ---- */

static const vly_column columns[] = {
    {"ready_ms", 1},
    {"min", 1},
    {"max", 1},
    {"open_ms", 1},
    {"weights_ms", 1},
    {"gb_per_s", 2},
    {"token_ms", 1},
    {"cached_percent", 0},
    {"host_peak_mib", 1},
    {"host_own_mib", 1},
    {"device_peak_mib", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

typedef enum { FIRST, SECOND, THIRD, N_STARTS } start_kind;
static const struct {
    const char *label;
    bool drop; /* the file from the memory of the system */
} starts[N_STARTS] = {{"first", true}, {"second", true}, {"from memory", false}};

typedef struct {
    double values[N_COLUMNS][MOST_REPEAT];
} samples;

static void add_sample(samples *all, uint32_t i, const start_result *r, double cached)
{
    double rate = (double)r->weights_bytes / (r->weights_ms * 1e6);
    const double values[N_COLUMNS] = {r->ready_ms,
                                      r->ready_ms,
                                      r->ready_ms,
                                      r->open_ms,
                                      r->weights_ms,
                                      rate,
                                      r->ready_ms - r->open_ms - r->weights_ms,
                                      cached,
                                      (double)r->host_peak_bytes / MIB,
                                      (double)r->host_bytes / MIB,
                                      (double)r->device_peak_bytes / MIB};
    for (size_t j = 0; j < N_COLUMNS; j++) all->values[j][i] = values[j];
}

static void report_run(const vly_bench_options *o, const start_result *r, vly_report *report)
{
    vly_report_fact(report, "volley", VLY_VERSION);
    vly_report_fact(report, "device", r->device);
    vly_report_fact(report, "driver", r->driver);
    if (r->clocks[0]) vly_report_fact(report, "clocks", r->clocks);
    vly_report_fact(report, "model", r->target);
    if (o->draft) vly_report_fact(report, "draft", r->draft);
    vly_report_fact(report, "kv", o->kv_f16 ? "f16" : "int8");
    vly_report_number(report, "weights_mib", (double)r->weights_bytes / MIB, 1);
}

static void report_limit(const samples *all, uint32_t n, vly_report *report)
{
    double disk[MOST_REPEAT], memory[MOST_REPEAT], cached[MOST_REPEAT];
    memcpy(disk, all[SECOND].values[5], sizeof disk);
    memcpy(memory, all[THIRD].values[5], sizeof memory);
    memcpy(cached, all[SECOND].values[7], sizeof cached);
    double from_disk = vly_median(disk, n), from_memory = vly_median(memory, n);
    double in_memory = vly_median(cached, n);
    if (isnan(in_memory))
        vly_report_note(report, "there is no file: the weights come from memory at every start");
    else if (in_memory > 10)
        vly_report_note(report,
                        "the system kept %.0f%% of the file in memory: no start read it from disk",
                        in_memory);
    else
        vly_report_note(report,
                        "weights: %.2f GB/s from disk, %.2f from memory: %s is the limit of a "
                        "first start",
                        from_disk, from_memory,
                        from_disk < 0.8 * from_memory ? "the disk"
                                                      : "laying them out and copying them");
}

static int measure_starts(const vly_bench_options *o, samples *all, uint32_t repeat,
                          start_result *result, vly_error *err)
{
    const char *folder = getenv("TMPDIR");
    char cache[512];
    snprintf(cache, sizeof cache, "%s/volley-bench-XXXXXX", folder && *folder ? folder : "/tmp");
    if (!mkdtemp(cache))
        return vly_fail(err, VLY_E_IO, "cannot make the folder %s: %s", cache, strerror(errno));
    int rc = 0;
    for (int kind = 0; rc == 0 && kind < N_STARTS; kind++) {
        double cached = cached_percent(o->target, starts[kind].drop);
        if (o->draft) cached_percent(o->draft, starts[kind].drop);
        rc = run_start(o, cache, result, err);
        if (rc == 0) add_sample(&all[kind], repeat, result, cached);
    }
    nftw(cache, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    static samples all[N_STARTS];
    static start_result result;
    uint32_t n = o->n_repeat < MOST_REPEAT ? o->n_repeat : MOST_REPEAT;
    int rc = 0;
    vly_bench_catch_interrupt(); /* there is a folder to remove */
    for (uint32_t i = 0; rc == 0 && i < n; i++) rc = measure_starts(o, all, i, &result, err);
    if (rc) return rc;
    report_run(o, &result, report);
    report_limit(all, n, report);
    vly_report_table(report, "rows", "start", columns, N_COLUMNS);
    for (int kind = 0; kind < N_STARTS; kind++) {
        double values[N_COLUMNS];
        for (size_t j = 0; j < N_COLUMNS; j++) {
            vly_spread spread = vly_spread_of(all[kind].values[j], n);
            values[j] = j == 1 ? spread.min : j == 2 ? spread.max : spread.median;
        }
        vly_report_row(report, starts[kind].label, values);
    }
    vly_report_note(
        report, "first: no cached pipelines; second, from memory: those of the first start. "
                "ready_ms: until a token was written; open_ms: device, metadata and vocabulary; "
                "token_ms: from the last weights on");
    vly_report_note(report,
                    "host_peak_mib: with pages of the file; host_own_mib: without, at the end; "
                    "cached_percent: of the file, in memory before the start");
    return 0;
}

int vly_bench_load(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_LOAD, "the time from disk to the first token, and memory",
                          measure, argc, argv);
}
