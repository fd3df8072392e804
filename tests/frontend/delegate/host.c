/* A program without Python that runs a model through a TFLite external delegate.
 *
 * It plays the runtime: a context with tensors and nodes, the part of TFLite that delegates see.
 * Its structures are declared again, from TFLite's headers, so that a wrong offset in our own
 * declarations is found. Nodes that the delegate does not take are not computed: their results are
 * those of the file.
 *
 *   host LIBRARY MODEL DEVICE CYCLES [WIDER]
 *
 * tests/frontend/delegate/test_host.py writes MODEL. Each cycle: create, Prepare, init, prepare
 * twice, invoke, with WIDER another height of the first input and back, free, destroy. It prints
 * the number of partitions, the largest difference from the file's results, and after each quarter
 * of the cycles the bytes in use.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef struct { int size; int data[]; } Ints;
typedef struct { int size; float data[]; } Floats;
typedef struct { Floats *scale; Ints *zero_point; int32_t dimension; } Affine;
typedef struct {
  int type;
  void *data;
  Ints *dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  int quantization_type;
  void *quantization;
  void *sparsity;
  const Ints *dims_signature;
} Tensor;
typedef struct {
  Ints *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_data;
  int custom_size;
  void *delegate;
  bool side_effect;
} Node;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace_operator; /* a library that passes 80 bytes does not set it */
} Registration;
struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context *, Ints **);
  Tensor *tensors;
  void *impl;
  int (*ResizeTensor)(Context *, Tensor *, Ints *);
  void (*ReportError)(Context *, const char *, ...);
  int (*AddTensors)(Context *, int, int *);
  int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  int (*ReplaceNodeSubsets)(Context *, Registration, const Ints *, Delegate *);
  void *rest[16]; /* NULL: a call of one of these crashes at once */
};
struct Delegate {
  void *data;
  int (*Prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
};
typedef struct { Delegate *delegate; Ints *nodes, *inputs, *outputs; } Params;

/* The model, and the content of its tensors by the reference kernels. */
enum { MOST_PARTS = 64, RO = 1, ARENA = 2 };
static Context context;
static Ints *plan;
static Node *nodes;
static Registration *kinds;
static void **reference;
static size_t *reference_bytes;
static Node parts[MOST_PARTS];
static int part_count;
static Registration kernel;

static void die(const char *text) {
  fprintf(stderr, "host: %s\n", text);
  exit(2);
}

static void *get(size_t size) {
  void *memory = calloc(1, size + 1);
  if (!memory)
    die("no memory");
  return memory;
}

/* Reading ----------------------------------------------------------------------------------- */

static FILE *file;

static int32_t number(void) {
  int32_t value;
  if (fread(&value, sizeof value, 1, file) != 1)
    die("the model file is too short");
  return value;
}

static void *bytes(size_t size) {
  void *memory = aligned_alloc(64, (size + 64) / 64 * 64);
  if (!memory || (size && fread(memory, size, 1, file) != 1))
    die("the model file is too short");
  return memory;
}

static Ints *ints(void) {
  int count = number();
  Ints *found = get(sizeof *found + sizeof(int) * (size_t)count);
  found->size = count;
  for (int i = 0; i < count; i++)
    found->data[i] = number();
  return found;
}

static void read_tensor(int at) {
  Tensor *t = &context.tensors[at];
  t->name = "a tensor";
  t->type = number();
  t->allocation_type = number();
  t->dims = ints();
  Ints *scales = ints(), *zero_points = ints();
  t->quantization_type = scales->size ? 1 : 0;
  Affine *affine = get(sizeof *affine);
  affine->scale = (Floats *)(void *)scales; /* four bytes each, written as floats */
  affine->zero_point = zero_points;
  affine->dimension = number();
  t->quantization = affine;
  if (scales->size) {
    t->scale = affine->scale->data[0];
    t->zero_point = zero_points->data[0];
  }
  reference_bytes[at] = t->bytes = (size_t)number();
  reference[at] = bytes(t->bytes);
  if (t->allocation_type == RO)
    t->data = reference[at];
}

static void read_node(int at) {
  Node *n = &nodes[at];
  kinds[at].builtin_code = number();
  kinds[at].version = number();
  n->inputs = ints();
  n->outputs = ints();
  size_t size = (size_t)number();
  n->builtin_data = bytes(size);
}

static void read_model(const char *path) {
  file = fopen(path, "rb");
  if (!file)
    die("no model file");
  int count = number();
  context.tensors_size = (size_t)count;
  context.tensors = get(sizeof(Tensor) * (size_t)count);
  reference = get(sizeof(void *) * (size_t)count);
  reference_bytes = get(sizeof(size_t) * (size_t)count);
  for (int i = 0; i < count; i++)
    read_tensor(i);
  int many = number();
  nodes = get(sizeof(Node) * (size_t)many);
  kinds = get(sizeof(Registration) * (size_t)many);
  plan = get(sizeof *plan + sizeof(int) * (size_t)many);
  plan->size = many;
  for (int i = 0; i < many; i++) {
    plan->data[i] = i;
    read_node(i);
  }
  fclose(file);
}

/* Functions that the delegate calls ----------------------------------------------------------- */

static int get_plan(Context *c, Ints **found) {
  (void)c;
  *found = plan;
  return 0;
}

static int get_node(Context *c, int at, Node **node, Registration **kind) {
  (void)c;
  if (at < 0 || at >= plan->size)
    return 1;
  *node = &nodes[at];
  *kind = &kinds[at];
  return 0;
}

static size_t element(int type) {
  return type == 3 || type == 9 || type == 6 ? 1 : type == 7 || type == 10 ? 2 : type == 4 ? 8 : 4;
}

static int resize(Context *c, Tensor *t, Ints *dims) {
  (void)c;
  free(t->dims);
  t->dims = dims;
  t->bytes = element(t->type);
  for (int i = 0; i < dims->size; i++)
    t->bytes *= (size_t)dims->data[i];
  return 0;
}

static void report(Context *c, const char *format, ...) {
  (void)c;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
}

static bool has(const Ints *list, int value) {
  for (int i = 0; i < list->size; i++)
    if (list->data[i] == value)
      return true;
  return false;
}

static void add(Ints *list, int value) {
  if (!has(list, value))
    list->data[list->size++] = value;
}

/* Whether a node of the run from `first` to before `end` makes a tensor. */
static bool made_in(int tensor, int first, int end) {
  for (int n = first; n < end; n++)
    if (has(nodes[n].outputs, tensor))
      return true;
  return false;
}

static bool needed_outside(int tensor, int first, int end) {
  bool anywhere = false;
  for (int n = 0; n < plan->size; n++) {
    if (!has(nodes[n].inputs, tensor))
      continue;
    anywhere = true;
    if (n < first || n >= end)
      return true;
  }
  return !anywhere;
}

static void add_part(Context *c, int first, int end, Delegate *delegate) {
  size_t most = sizeof(Ints) + sizeof(int) * (context.tensors_size + (size_t)plan->size);
  Params params = {delegate, get(most), get(most), get(most)};
  for (int n = first; n < end; n++) {
    params.nodes->data[params.nodes->size++] = n;
    for (int i = 0; i < nodes[n].inputs->size; i++) {
      int tensor = nodes[n].inputs->data[i];
      if (tensor >= 0 && !made_in(tensor, first, end))
        add(params.inputs, tensor); /* constants too, as TFLite does */
    }
    for (int i = 0; i < nodes[n].outputs->size; i++)
      if (needed_outside(nodes[n].outputs->data[i], first, end))
        add(params.outputs, nodes[n].outputs->data[i]);
  }
  Node *part = &parts[part_count++];
  memset(part, 0, sizeof *part);
  part->inputs = params.inputs;
  part->outputs = params.outputs;
  part->delegate = delegate;
  part->user_data = kernel.init(c, (const char *)&params, 0);
  free(params.nodes);
  /* Move the table: a pointer that the delegate kept now points to freed memory. */
  Tensor *moved = get(sizeof(Tensor) * context.tensors_size);
  memcpy(moved, context.tensors, sizeof(Tensor) * context.tensors_size);
  free(context.tensors);
  context.tensors = moved;
}

static int replace(Context *c, Registration given, const Ints *taken, Delegate *delegate) {
  if (given.inplace_operator || given.async_kernel || given.external)
    die("the registration's last fields are not zero");
  kernel = given;
  for (int first = 0; first < plan->size;) {
    int end = first;
    while (end < plan->size && has(taken, end))
      end++;
    if (end > first)
      add_part(c, first, end, delegate);
    first = end + (end == first);
  }
  return 0;
}

/* Running ------------------------------------------------------------------------------------- */

static void prepare(void) {
  for (int p = 0; p < part_count; p++)
    if (kernel.prepare(&context, &parts[p]))
      die("prepare failed");
}

/* Allocate exactly the bytes of each tensor, so that a memory checker finds accesses beyond them. */
static void allocate(void) {
  for (size_t i = 0; i < context.tensors_size; i++) {
    Tensor *t = &context.tensors[i];
    if (t->allocation_type == RO)
      continue;
    free(t->data);
    t->data = malloc(t->bytes);
    memset(t->data, 0, t->bytes);
    if (t->bytes == reference_bytes[i])
      memcpy(t->data, reference[i], t->bytes);
  }
}

static int difference(int tensor) {
  const Tensor *t = &context.tensors[tensor];
  int most = 0;
  for (size_t i = 0; i < t->bytes; i++) {
    int a = ((uint8_t *)t->data)[i], b = ((uint8_t *)reference[tensor])[i];
    int d = t->type == 9 ? (int8_t)a - (int8_t)b : a - b;
    most = abs(d) > most ? abs(d) : most;
  }
  return most;
}

static int largest;

static void *invoke(void *compare) {
  for (int p = 0; p < part_count; p++) {
    Ints *out = parts[p].outputs;
    for (int i = 0; i < out->size; i++)
      memset(context.tensors[out->data[i]].data, 0x55, context.tensors[out->data[i]].bytes);
    if (kernel.invoke(&context, &parts[p]))
      die("invoke failed");
    for (int i = 0; compare && i < out->size; i++) {
      int d = difference(out->data[i]);
      largest = d > largest ? d : largest;
    }
  }
  return NULL;
}

static void set_height(int tensor, int height) {
  const Tensor *t = &context.tensors[tensor];
  size_t size = sizeof(Ints) + sizeof(int) * (size_t)t->dims->size;
  Ints *dims = get(size);
  memcpy(dims, t->dims, size);
  dims->data[1] = height;
  resize(&context, &context.tensors[tensor], dims);
}

static void at_height(int height, void *compare) {
  int first = nodes[0].inputs->data[0];
  set_height(first, height);
  prepare();
  int last = nodes[plan->size - 1].outputs->data[0];
  if (context.tensors[last].dims->data[1] != height)
    die("the output was not resized");
  allocate();
  invoke(compare);
}

typedef Delegate *(*Create)(char **, char **, size_t, void (*)(const char *));

static void cycle(Create create, void (*destroy)(Delegate *), char *device, int height) {
  char *keys[] = {"device"};
  Delegate *delegate = create(keys, &device, 1, NULL);
  if (!delegate)
    die("no delegate");
  part_count = 0;
  if (delegate->Prepare(&context, delegate))
    die("Prepare failed");
  prepare();
  prepare();
  allocate();
  pthread_t thread; /* a thread that Python does not know */
  pthread_create(&thread, NULL, invoke, &context);
  pthread_join(thread, NULL);
  invoke(&context);
  if (height) {
    int before = context.tensors[nodes[0].inputs->data[0]].dims->data[1];
    at_height(height, NULL);
    at_height(before, &context);
  }
  for (int p = 0; p < part_count; p++) {
    kernel.free(&context, parts[p].user_data);
    free(parts[p].inputs);
    free(parts[p].outputs);
  }
  destroy(delegate);
}

static void *python(const char *name) {
  void *found = dlsym(RTLD_DEFAULT, name);
  if (!found)
    die("the library has not started Python");
  return found;
}

/* Return the allocated bytes, after the library's Python has freed its cyclic garbage. */
static size_t in_use(void) {
  int (*ensure)(void);
  void (*release)(int);
  ssize_t (*collect)(void);
  *(void **)&ensure = python("PyGILState_Ensure");
  *(void **)&release = python("PyGILState_Release");
  *(void **)&collect = python("PyGC_Collect");
  int state = ensure();
  collect();
  release(state);
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

static char said[4096];

static void hear(const char *text) { snprintf(said, sizeof said, "%s", text); }

int main(int count, char **words) {
  if (count < 5)
    die("host LIBRARY MODEL DEVICE CYCLES [WIDER]");
  int cycles = atoi(words[4]), height = count > 5 ? atoi(words[5]) : 0;
  context.GetExecutionPlan = get_plan;
  context.ResizeTensor = resize;
  context.ReportError = report;
  context.GetNodeAndRegistration = get_node;
  context.ReplaceNodeSubsets = replace;
  read_model(words[2]);
  void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
  if (!library)
    die(dlerror());
  Create create;
  void (*destroy)(Delegate *);
  *(void **)&create = dlsym(library, "tflite_plugin_create_delegate");
  *(void **)&destroy = dlsym(library, "tflite_plugin_destroy_delegate");
  if (!create || !destroy)
    die("the library is not a delegate");
  destroy(NULL);
  char *keys[] = {"device", "nonsense"}, *values[] = {words[3], "1"};
  if (create(keys, values, 2, hear) || !strstr(said, "nonsense"))
    die("an unknown option was not refused");
  printf("said: %s\n", said);
  for (int i = 1; i <= cycles; i++) {
    cycle(create, destroy, words[3], height);
    if (cycles % 4 == 0 && i % (cycles / 4) == 0)
      printf("cycle %d: %zu bytes in use\n", i, in_use());
  }
  printf("partitions: %d\nlargest difference: %d\n", part_count, largest);
  return 0;
}
