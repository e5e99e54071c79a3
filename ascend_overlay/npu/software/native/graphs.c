// Captured graphs: capture, execution, groups of tasks and their update.
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long software_npu_graph_counts[GRAPH_COUNTS];

static graph *graphs;
static uint32_t last_id;

// How careful a capture is about what its own thread does, as CUDA has it: in the last mode, all is allowed that leaves streams alone.
enum { RELAXED = 2 };
static __thread int mode;

int software_npu_is_relaxed(void) { return mode == RELAXED; }

int aclmdlRICaptureThreadExchangeMode(int *given) {
  int was = mode;
  mode = *given;
  *given = was;
  return OK;
}

int aclmdlRICaptureBegin(void *on, int how) {
  LOCKED;
  stream *s = software_npu_stream(on);
  if (s->captured_by) return software_npu_fail(STREAM_CAPTURED, "the stream is being captured already.");
  if (s->head) return software_npu_fail(CAPTURE_REFUSES, "a stream that waits for something cannot be captured.");
  graph *g = calloc(1, sizeof *g);
  g->state = CAPTURE_ACTIVE;
  g->id = ++last_id;
  g->origin = s;
  g->group_from = -1;
  g->next = graphs;
  graphs = g;
  s->captured_by = g;
  software_npu_count_busy();
  return OK;
}

int aclmdlRICaptureGetInfo(void *on, int *state, void **handle) {
  *state = CAPTURE_NONE;
  *handle = NULL;
  if (!__atomic_load_n(&software_npu_busy, __ATOMIC_SEQ_CST)) return OK;
  LOCKED;
  graph *g = software_npu_stream(on)->captured_by;
  if (g) *state = g->state;
  *handle = g;
  return OK;
}

// Lets go of all streams of the capture; tells whether one of them was waited for by nobody.
static int let_go(graph *g) {
  int unjoined = 0;
  for (stream *s = software_npu_streams; s; s = s->next) {
    if (s->captured_by != g) continue;
    unjoined |= s != g->origin && !s->joined;
    s->captured_by = NULL;
  }
  software_npu_count_busy();
  return unjoined;
}

int aclmdlRICaptureEnd(void *on, void **handle) {
  LOCKED;
  stream *s = software_npu_stream(on);
  graph *g = s->captured_by;
  *handle = g;
  if (!g) return software_npu_fail(NOT_CAPTURED, "the stream is not being captured.");
  if (g->origin != s) return software_npu_fail(CAPTURE_UNMATCHED, "the capture began on another stream.");
  int unjoined = let_go(g);
  int was = g->state;
  g->state = CAPTURE_INVALID;
  if (was != CAPTURE_ACTIVE) return software_npu_fail(CAPTURE_REFUSES, "the capture met something that cannot be captured.");
  if (g->group_from >= 0) return software_npu_fail(BAD_TASK_GROUP, "a group of tasks has no end.");
  if (unjoined) return software_npu_fail(CAPTURE_UNJOINED, "a stream joined the capture and is waited for by no other.");
  g->state = CAPTURE_NONE;
  software_npu_graph_counts[GRAPH_CAPTURES]++;
  return OK;
}

int aclmdlRIGetId(void *handle, uint32_t *id) { return *id = ((graph *)handle)->id, OK; }

int aclmdlRIExecuteAsync(void *handle, void *on) {
  LOCKED;
  graph *g = handle;
  stream *s = software_npu_stream(on);
  if (s->captured_by) {
    s->captured_by->state = CAPTURE_INVALID;
    return software_npu_fail(CAPTURE_REFUSES, "a graph is executed in a capture.");
  }
  if (g->state != CAPTURE_NONE) return software_npu_fail(CAPTURE_REFUSES, "a graph is executed whose capture failed.");
  g->replays++;
  software_npu_graph_counts[GRAPH_REPLAYS]++;
  for (int i = 0; i < g->count; i++) software_npu_enqueue(s, g->tasks[i], g);
  return software_npu_go_on(s);
}

void software_npu_forget(graph *g) {
  if (!g->destroyed || g->queued) return;
  for (int i = 0; i < g->count; i++) software_npu_drop(g->tasks[i]);
  for (group *one = g->groups, *next; one; one = next) next = one->next, free(one);
  free(g->tasks);
  free(g);
}

int aclmdlRIDestroy(void *handle) {
  LOCKED;
  graph *gone = handle;
  if (!gone) return OK;
  for (graph **g = &graphs; *g; g = &(*g)->next) {
    if (*g != gone) continue;
    *g = gone->next;
    break;
  }
  let_go(gone);
  gone->destroyed = 1;
  software_npu_forget(gone);
  return OK;
}

int aclmdlRICaptureTaskGrpBegin(void *on) {
  LOCKED;
  graph *g = software_npu_stream(on)->captured_by;
  if (!g) return software_npu_fail(NOT_CAPTURED, "a group of tasks begins outside a capture.");
  if (g->group_from >= 0) return software_npu_fail(BAD_TASK_GROUP, "a group of tasks begins in another one.");
  g->group_from = g->count;
  return OK;
}

int aclmdlRICaptureTaskGrpEnd(void *on, void **handle) {
  LOCKED;
  graph *g = software_npu_stream(on)->captured_by;
  if (!g || g->group_from < 0) return software_npu_fail(BAD_TASK_GROUP, "no group of tasks has begun.");
  group *made = malloc(sizeof *made);
  *made = (group){g, g->group_from, g->count - g->group_from, g->groups};
  g->groups = made;
  g->group_from = -1;
  *handle = made;
  return OK;
}

int aclmdlRICaptureTaskUpdateBegin(void *on, void *handle) {
  LOCKED;
  stream *s = software_npu_stream(on);
  if (s->captured_by || s->updates) return software_npu_fail(BAD_TASK_GROUP, "the stream captures or updates already.");
  s->updates = handle;
  s->updated = 0;
  software_npu_count_busy();
  return OK;
}

int aclmdlRICaptureTaskUpdateEnd(void *on) {
  LOCKED;
  stream *s = software_npu_stream(on);
  if (!s->updates) return software_npu_fail(BAD_TASK_GROUP, "no update has begun.");
  int missing = s->updates->count - s->updated;
  s->updates = NULL;
  software_npu_count_busy();
  return missing ? software_npu_fail(UPDATE_REFUSED, "the update lacks %d tasks of its group.", missing) : OK;
}

int aclmdlRIDebugJsonPrint(void *handle, const char *path, uint32_t flags) {
  LOCKED;
  graph *g = handle;
  FILE *file = fopen(path, "w");
  if (!file) return software_npu_fail(BAD_PARAMETER, "%s cannot be written.", path);
  fprintf(file, "[");
  for (int i = 0; i < g->count; i++) {
    fprintf(file, "%s\n{\"name\": \"%s\", \"ph\": \"X\", \"pid\": %u, \"tid\": 0, \"ts\": %d, \"dur\": 1}", i ? "," : "", g->tasks[i]->name, g->id, i);
  }
  fprintf(file, "\n]\n");
  return fclose(file) ? software_npu_fail(BAD_PARAMETER, "%s cannot be written.", path) : OK;
}
int aclmdlRIDebugPrint(void *handle) { return OK; }

// Four numbers of each graph there is, the newest first: identifier, tasks, replays, updated tasks. Returns how many there are.
int software_npu_graphs(long (*rows)[4], int room) {
  LOCKED;
  int n = 0;
  for (graph *g = graphs; g; g = g->next, n++) {
    if (n < room) memcpy(rows[n], (long[4]){g->id, g->count, g->replays, g->updates}, sizeof rows[n]);
  }
  return n;
}
