/* A stand-in for NVIDIA's libnvidia-ml.so.1: answers from the ini file that $NVML_STANDIN names, read
   anew at each call, so that a test can steer what the driver says while somebody asks.

     [driver]                       [gpu0]
     version = 550.54               uuid, name, pci = text
     count = 2                      total, used = MiB
     init = 0       (error code)    utilisation = %, temperature = °C, power, power_limit = mW
     hang = 0                       compute, graphics, mps = PID:MiB PID:MiB …  (MiB of -1: not known)
                                    mig = 0 or 1
                                    lost = error code of everything that is asked about this GPU
                                    without = names of queries that are not supported
                                    hang = 1: the query does not return, until it is 0 again; a file
                                    beside the ini file, with ".hung" after its name, tells that one hangs
                                    crash = 1: a segmentation fault
                                    xid = N: an error that is told once for each change of it
                                    uncorrected = count, remap_failed = 0 or 1

   A figure that is left out is not supported. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default"))) int
enum { OK, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, MIB = 1 << 20 };
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; u64 used; unsigned instance, compute; } process_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;

/* Copies the value of `key` in [section] to `out`; 0 if it is not there. */
static int find(const char *section, const char *key, char *out, size_t size)
{
    char line[4096], here[64] = "", name[64];
    const char *path = getenv("NVML_STANDIN");
    FILE *file = path ? fopen(path, "r") : NULL;
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *value = strchr(line, '=');
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "[%63[^]]", here) == 1 || !value || sscanf(line, " %63[^ =]", name) != 1)
            continue;
        if (strcmp(here, section) || strcmp(name, key))
            continue;
        snprintf(out, size, "%s", value + 1 + strspn(value + 1, " "));
        found = 1;
    }
    if (file)
        fclose(file);
    return found;
}

static long number(const char *section, const char *key, long otherwise)
{
    char text[64];
    return find(section, key, text, sizeof text) ? strtol(text, NULL, 10) : otherwise;
}

static void hang_while(const char *section)
{
    char path[4096];
    while (number(section, "hang", 0)) {
        snprintf(path, sizeof path, "%s.hung", getenv("NVML_STANDIN"));
        FILE *mark = fopen(path, "w");
        if (mark)
            fclose(mark);
        usleep(5000);
    }
}

static const char *section_of(void *gpu)
{
    static _Thread_local char section[16];
    snprintf(section, sizeof section, "gpu%hu", (unsigned short)((size_t)gpu - 1));
    return section;
}

/* What happens before any query about a GPU is answered. */
static int enter(void *gpu, const char *query)
{
    char names[4096];
    hang_while(section_of(gpu));
    if (number(section_of(gpu), "crash", 0))
        raise(SIGSEGV);
    long lost = number(section_of(gpu), "lost", 0);
    if (!lost && find(section_of(gpu), "without", names, sizeof names) && strstr(names, query))
        return NOT_SUPPORTED;
    return (int)lost;
}

static int text(void *gpu, const char *query, const char *key, char *out, unsigned size)
{
    int code = enter(gpu, query);
    return code ? code : find(section_of(gpu), key, out, size) ? OK : NOT_SUPPORTED;
}

static int figure(void *gpu, const char *query, const char *key, unsigned *out)
{
    long value = number(section_of(gpu), key, -1);
    int code = enter(gpu, query);
    *out = (unsigned)value;
    return code ? code : value < 0 ? NOT_SUPPORTED : OK;
}

static int processes(void *gpu, const char *query, const char *key, unsigned *count, process_t *out)
{
    char list[4096] = "", *rest = list, *entry;
    unsigned room = *count, found = 0;
    int code = enter(gpu, query);
    find(section_of(gpu), key, list, sizeof list);
    while ((entry = strsep(&rest, " "))) {
        unsigned pid;
        long mib;
        if (sscanf(entry, "%u:%ld", &pid, &mib) != 2)
            continue;
        if (found < room && out)
            out[found] = (process_t){pid, mib < 0 ? ~0ULL : (u64)mib * MIB, ~0U, ~0U};
        found++;
    }
    *count = found;
    return code ? code : found > room ? TOO_SMALL : OK;
}

API nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    hang_while("driver");
    return (int)number("driver", "init", OK);
}
API nvmlShutdown(void) { return OK; }
API nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    return find("driver", "version", out, size) ? OK : NOT_SUPPORTED;
}
API nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = (unsigned)number("driver", "count", 0);
    return OK;
}
API nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu)
{
    *gpu = (void *)((size_t)index + 1);
    return enter(*gpu, "Handle");
}
API nvmlDeviceGetUUID(void *gpu, char *out, unsigned size) { return text(gpu, "UUID", "uuid", out, size); }
API nvmlDeviceGetName(void *gpu, char *out, unsigned size) { return text(gpu, "Name", "name", out, size); }
API nvmlDeviceGetPciInfo_v3(void *gpu, pci_t *out)
{
    memset(out, 0, sizeof *out);
    return text(gpu, "Pci", "pci", out->bus_id, sizeof out->bus_id);
}
API nvmlDeviceGetMemoryInfo(void *gpu, memory_t *out)
{
    u64 total = number(section_of(gpu), "total", 0), used = number(section_of(gpu), "used", 0);
    *out = (memory_t){total * MIB, (total - used) * MIB, used * MIB};
    return enter(gpu, "Memory");
}
API nvmlDeviceGetMemoryInfo_v2(void *gpu, memory_v2_t *out)
{
    memory_t plain;
    int code = nvmlDeviceGetMemoryInfo(gpu, &plain);
    code = code ? code : enter(gpu, "Reserved");
    *out = (memory_v2_t){out->version, plain.total, 0, plain.free, plain.used};
    return code;
}
API nvmlDeviceGetUtilizationRates(void *gpu, unsigned out[2])
{
    out[1] = 0;
    return figure(gpu, "Utilization", "utilisation", out);
}
API nvmlDeviceGetTemperature(void *gpu, unsigned sensor, unsigned *out)
{
    return sensor ? INVALID : figure(gpu, "Temperature", "temperature", out);
}
API nvmlDeviceGetPowerUsage(void *gpu, unsigned *out) { return figure(gpu, "Power", "power", out); }
API nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *out) { return figure(gpu, "Limit", "power_limit", out); }
API nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *pending)
{
    *pending = 0;
    return figure(gpu, "Mig", "mig", now);
}
API nvmlDeviceGetTotalEccErrors(void *gpu, unsigned type, unsigned counter, u64 *out)
{
    unsigned count = 0;
    int code = type == 1 && counter == 0 ? figure(gpu, "Ecc", "uncorrected", &count) : INVALID;
    *out = count;
    return code;
}
API nvmlDeviceGetRemappedRows(void *gpu, unsigned *corrected, unsigned *bad, unsigned *pending, unsigned *failed)
{
    *corrected = *bad = *pending = 0;
    return figure(gpu, "Remapped", "remap_failed", failed);
}

/* Events: one set, and all GPUs that were registered with it. */
typedef struct { void *gpu; u64 type, data; unsigned instance, compute; } event_t;
enum { XID = 8, TIMEOUT = 10, MOST = 64 };
static long told[MOST];
static int registered[MOST];
API nvmlEventSetCreate(void **set) { return *set = told, OK; }
API nvmlEventSetFree(void *set) { return (void)set, OK; }
API nvmlDeviceRegisterEvents(void *gpu, u64 types, void *set)
{
    (void)set;
    if (number(section_of(gpu), "xid", -1) < 0)
        return NOT_SUPPORTED;
    registered[((size_t)gpu - 1) % MOST] = types == XID;
    return enter(gpu, "Events");
}
API nvmlEventSetWait_v2(void *set, event_t *out, unsigned milliseconds)
{
    (void)set, (void)milliseconds;
    for (size_t i = 0; i < MOST; i++) {
        void *gpu = (void *)(i + 1);
        long xid = registered[i] ? number(section_of(gpu), "xid", 0) : told[i];
        if (xid == told[i])
            continue;
        told[i] = xid;
        if (!xid)
            continue;
        *out = (event_t){gpu, XID, (u64)xid, ~0U, ~0U};
        return OK;
    }
    return TIMEOUT;
}
API nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, process_t *out)
{
    return processes(gpu, "Compute", "compute", count, out);
}
API nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, unsigned *count, process_t *out)
{
    return processes(gpu, "Graphics", "graphics", count, out);
}
API nvmlDeviceGetMPSComputeRunningProcesses_v3(void *gpu, unsigned *count, process_t *out)
{
    return processes(gpu, "Mps", "mps", count, out);
}
