/* teflon.frontend.delegate._delegate: passes the calls of a TFLite runtime to Python.
 *
 * marshal.c makes the tables for Python. All decisions are made in
 * teflon.frontend.delegate.delegate.
 *
 * The runtime calls these functions with the GIL (Prepare, init, prepare, free) or without it
 * (invoke), and from threads that Python does not know; PyGILState_Ensure works for all of them.
 * The runtime may move its tables of tensors and nodes at any time, so no pointer into them is kept
 * between calls.
 */
#include "marshal.h"

#include <stdio.h>
#include <unistd.h>

/* A delegate. Several interpreters may share it, so it has no data of partitions. */
typedef struct {
  TflDelegate base; /* must be first: the runtime has a pointer to it */
  PyObject *object; /* teflon.frontend.delegate.delegate.Delegate */
  pid_t process;
} Delegate;

/* One delegated kernel. */
typedef struct {
  PyObject *object; /* teflon.frontend.delegate.delegate.Partition; NULL if init failed */
  char *problem;    /* why init failed; malloc */
  pid_t process;
  int inputs, outputs; /* their counts in `tensors`, which has the inputs first */
  int tensors[];       /* numbers of the runtime's tensors */
} Kernel;

static const char FORKED[] = "teflon: this process was forked after the delegate was made; make a"
                             " new one in it\n";

/* Take the current Python error as one line of text (malloc), and clear it. */
static char *take_error(void) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (value && trace)
    PyException_SetTraceback(value, trace);
  char *text = NULL;
  PyObject *module = PyImport_ImportModule("teflon.frontend.delegate.delegate");
  PyObject *line =
      module && value ? PyObject_CallMethod(module, "error_text", "O", value) : NULL;
  if (line && PyUnicode_Check(line)) {
    const char *utf8 = PyUnicode_AsUTF8(line);
    text = utf8 ? strdup(utf8) : NULL;
  }
  if (!text) {
    PyErr_Clear();
    PyObject *plain = value ? PyObject_Str(value) : NULL;
    const char *utf8 = plain ? PyUnicode_AsUTF8(plain) : NULL;
    text = strdup(utf8 ? utf8 : "an error without text");
    Py_XDECREF(plain);
  }
  PyErr_Clear();
  Py_XDECREF(line);
  Py_XDECREF(module);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return text;
}

static int fail(TflContext *context) {
  char *text = take_error();
  context->ReportError(context, "%s\n", text ? text : "teflon: not enough memory");
  free(text);
  return TFL_ERROR;
}

/* The delegated kernel --------------------------------------------------------------------- */

/* Make a kernel with the numbers of its inputs, without constants, and of its outputs. */
static Kernel *new_kernel(const TflContext *context, const TflDelegateParams *given) {
  int most = given->input_tensors->size + given->output_tensors->size;
  Kernel *kernel = calloc(1, sizeof *kernel + sizeof(int) * (size_t)most);
  if (!kernel)
    return NULL;
  kernel->process = getpid();
  int *end = kernel->tensors;
  for (int i = 0; i < given->input_tensors->size; i++) {
    int number = given->input_tensors->data[i];
    if (number != TFL_OPTIONAL && context->tensors[number].allocation_type != TFL_MMAP_RO) {
      *end++ = number;
      kernel->inputs++;
    }
  }
  for (int i = 0; i < given->output_tensors->size; i++) {
    if (given->output_tensors->data[i] != TFL_OPTIONAL) {
      *end++ = given->output_tensors->data[i];
      kernel->outputs++;
    }
  }
  return kernel;
}

static void *kernel_init(TflContext *context, const char *buffer, size_t length) {
  (void)length; /* 0 for delegated kernels */
  const TflDelegateParams *given = (const TflDelegateParams *)(const void *)buffer;
  const Delegate *delegate = (const Delegate *)given->delegate;
  Kernel *kernel = new_kernel(context, given);
  if (!kernel)
    return NULL;
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject *tensors = tensor_rows(context);
  PyObject *nodes = tensors ? node_rows(context, given->nodes_to_replace) : NULL;
  PyObject *inputs = nodes ? numbers(kernel->tensors, kernel->inputs) : NULL;
  PyObject *outputs = inputs ? numbers(kernel->tensors + kernel->inputs, kernel->outputs) : NULL;
  if (outputs)
    kernel->object = PyObject_CallMethod(delegate->object, "partition", "OOOO", tensors, nodes,
                                         inputs, outputs);
  if (!kernel->object)
    kernel->problem = take_error();
  Py_XDECREF(outputs);
  Py_XDECREF(inputs);
  Py_XDECREF(nodes);
  Py_XDECREF(tensors);
  PyGILState_Release(state);
  return kernel;
}

static void kernel_free(TflContext *context, void *buffer) {
  (void)context;
  Kernel *kernel = buffer;
  if (!kernel)
    return;
  if (kernel->object && kernel->process == getpid()) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *none = PyObject_CallMethod(kernel->object, "close", NULL);
    if (!none)
      PyErr_Clear(); /* this function cannot report an error */
    Py_XDECREF(none);
    Py_DECREF(kernel->object);
    PyGILState_Release(state);
  }
  free(kernel->problem);
  free(kernel);
}

/* Whether a kernel can be used in this process; otherwise report why not. */
static bool usable(TflContext *context, const Kernel *kernel) {
  const char *text = !kernel                        ? "teflon: not enough memory\n"
                     : kernel->process != getpid()  ? FORKED
                     : !kernel->object              ? ""
                                                    : NULL;
  if (!text)
    return true;
  if (*text)
    context->ReportError(context, "%s", text);
  else
    context->ReportError(context, "%s\n", kernel->problem ? kernel->problem : "teflon: no memory");
  return false;
}

static bool same(const TflIntArray *a, const TflIntArray *b) {
  return a && a->size == b->size &&
         !memcmp(a->data, b->data, sizeof(int) * (size_t)a->size);
}

/* Set the shape of an output. The runtime frees the array that it gets. */
static int give_shape(TflContext *context, int number, PyObject *shape) {
  TflIntArray *dims = int_array(shape);
  if (!dims)
    return fail(context);
  if (same(context->tensors[number].dims, dims)) {
    free(dims);
    return TFL_OK;
  }
  return context->ResizeTensor(context, &context->tensors[number], dims);
}

static PyObject *input_shapes(const TflContext *context, const Kernel *kernel) {
  PyObject *shapes = PyTuple_New(kernel->inputs);
  for (int i = 0; shapes && i < kernel->inputs; i++) {
    PyObject *shape = ints(context->tensors[kernel->tensors[i]].dims);
    if (!shape)
      Py_CLEAR(shapes);
    else
      PyTuple_SET_ITEM(shapes, i, shape);
  }
  return shapes;
}

/* The runtime may call this any number of times; Python compiles again only for new shapes. */
static int kernel_prepare(TflContext *context, TflNode *node) {
  Kernel *kernel = node->user_data;
  if (!usable(context, kernel))
    return TFL_ERROR;
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject *given = input_shapes(context, kernel);
  PyObject *shapes = given ? PyObject_CallMethod(kernel->object, "prepare", "(O)", given) : NULL;
  int status = shapes ? TFL_OK : fail(context);
  for (int i = 0; status == TFL_OK && i < kernel->outputs; i++) {
    PyObject *shape = PySequence_GetItem(shapes, i);
    int number = kernel->tensors[kernel->inputs + i];
    status = shape ? give_shape(context, number, shape) : fail(context);
    Py_XDECREF(shape);
  }
  Py_XDECREF(shapes);
  Py_XDECREF(given);
  PyGILState_Release(state);
  return status;
}

/* Memoryviews of the memory of `count` tensors. */
static PyObject *views(const TflContext *context, const int *first, int count, int flags) {
  PyObject *tuple = PyTuple_New(count);
  for (int i = 0; tuple && i < count; i++) {
    const TflTensor *tensor = &context->tensors[first[i]];
    PyObject *memory = view(tensor->data, tensor->bytes, flags);
    if (!memory)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, memory);
  }
  return tuple;
}

static int kernel_invoke(TflContext *context, TflNode *node) {
  const Kernel *kernel = node->user_data;
  if (!usable(context, kernel))
    return TFL_ERROR;
  PyGILState_STATE state = PyGILState_Ensure();
  static PyObject *name;
  if (!name)
    name = PyUnicode_InternFromString("invoke");
  PyObject *in = views(context, kernel->tensors, kernel->inputs, PyBUF_READ);
  PyObject *out =
      in ? views(context, kernel->tensors + kernel->inputs, kernel->outputs, PyBUF_WRITE) : NULL;
  PyObject *none = out ? PyObject_CallMethodObjArgs(kernel->object, name, in, out, NULL) : NULL;
  int status = none ? TFL_OK : fail(context);
  Py_XDECREF(none);
  Py_XDECREF(out);
  Py_XDECREF(in);
  PyGILState_Release(state);
  return status;
}

/* The delegate -------------------------------------------------------------------------------- */

/* Let Python choose the nodes for the device, and let the runtime replace them by kernels. */
static int prepare(TflContext *context, TflDelegate *base) {
  const Delegate *delegate = (const Delegate *)base;
  if (delegate->process != getpid()) {
    context->ReportError(context, "%s", FORKED);
    return TFL_ERROR;
  }
  TflIntArray *plan = NULL;
  if (context->GetExecutionPlan(context, &plan) || !plan) {
    context->ReportError(context, "teflon: the runtime shows no execution plan\n");
    return TFL_ERROR;
  }
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject *tensors = tensor_rows(context);
  PyObject *nodes = tensors ? node_rows(context, plan) : NULL;
  PyObject *taken =
      nodes ? PyObject_CallMethod(delegate->object, "choose", "OO", tensors, nodes) : NULL;
  TflIntArray *chosen = taken ? int_array(taken) : NULL;
  int status = chosen ? TFL_OK : fail(context);
  Py_XDECREF(taken);
  Py_XDECREF(nodes);
  Py_XDECREF(tensors);
  if (chosen && chosen->size) {
    TflRegistration kernel;
    memset(&kernel, 0, sizeof kernel);
    kernel.init = kernel_init;
    kernel.free = kernel_free;
    kernel.prepare = kernel_prepare;
    kernel.invoke = kernel_invoke;
    kernel.custom_name = "TeflonDelegate";
    kernel.version = 1;
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, chosen, base);
  }
  free(chosen);
  PyGILState_Release(state);
  return status;
}

static PyObject *options_dict(char **keys, char **values, size_t count) {
  PyObject *dict = PyDict_New();
  for (size_t i = 0; dict && i < count; i++) {
    PyObject *value = PyUnicode_FromString(values[i]);
    if (!value || PyDict_SetItemString(dict, keys[i], value))
      Py_CLEAR(dict);
    Py_XDECREF(value);
  }
  return dict;
}

static TflDelegate *create(char **keys, char **values, size_t count, TflReport report) {
  PyGILState_STATE state = PyGILState_Ensure();
  Delegate *delegate = calloc(1, sizeof *delegate);
  PyObject *module = PyImport_ImportModule("teflon.frontend.delegate.delegate");
  PyObject *options = module ? options_dict(keys, values, count) : NULL;
  PyObject *object = options ? PyObject_CallMethod(module, "Delegate", "O", options) : NULL;
  Py_XDECREF(options);
  Py_XDECREF(module);
  if (!object || !delegate) {
    char *text = take_error();
    if (report)
      report(text ? text : "not enough memory");
    else
      fprintf(stderr, "%s\n", text ? text : "teflon: not enough memory");
    free(text);
    free(delegate);
    Py_XDECREF(object);
    PyGILState_Release(state);
    return NULL;
  }
  delegate->base.data = delegate;
  delegate->base.Prepare = prepare;
  delegate->base.flags = TFL_ALLOW_DYNAMIC_TENSORS | TFL_REQUIRE_PROPAGATED_SHAPES;
  delegate->object = object;
  delegate->process = getpid();
  PyGILState_Release(state);
  return &delegate->base;
}

static void destroy(TflDelegate *base) {
  Delegate *delegate = (Delegate *)base;
  if (delegate->process == getpid()) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *none = PyObject_CallMethod(delegate->object, "close", NULL);
    if (!none)
      PyErr_Clear();
    Py_XDECREF(none);
    Py_DECREF(delegate->object);
    PyGILState_Release(state);
  }
  free(delegate);
}

static const TeflonEntry entry = {create, destroy};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_delegate",
    .m_doc = "The part of libteflon.so that needs a Python interpreter.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__delegate(void) {
  PyObject *module = PyModule_Create(&definition);
  PyObject *capsule = module ? PyCapsule_New((void *)&entry, TEFLON_CAPSULE, NULL) : NULL;
  if (!capsule || PyModule_AddObjectRef(module, "entry", capsule))
    Py_CLEAR(module);
  Py_XDECREF(capsule);
  return module;
}
