/* The tensors and nodes of a TFLite runtime as plain Python tables. */
#include "marshal.h"

PyObject *numbers(const int *first, int count) {
  PyObject *tuple = PyTuple_New(count);
  for (int i = 0; tuple && i < count; i++) {
    PyObject *number = PyLong_FromLong(first[i]);
    if (!number)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, number);
  }
  return tuple;
}

PyObject *ints(const TflIntArray *array) {
  return array ? numbers(array->data, array->size) : PyTuple_New(0);
}

static PyObject *floats(const TflFloatArray *array) {
  int count = array ? array->size : 0;
  PyObject *tuple = PyTuple_New(count);
  for (int i = 0; tuple && i < count; i++) {
    PyObject *number = PyFloat_FromDouble(array->data[i]);
    if (!number)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, number);
  }
  return tuple;
}

PyObject *view(void *data, size_t size, int flags) {
  static char nothing;
  if (!data && size)
    return PyErr_Format(PyExc_BufferError, "a tensor of %zu bytes has no memory", size);
  return PyMemoryView_FromMemory(size ? data : &nothing, (Py_ssize_t)size, flags);
}

/* The fields of teflon.frontend.delegate.rows.TensorRow, in their order. */
static PyObject *tensor_row(const TflTensor *t) {
  const TflAffine *affine = t->quantization.type == TFL_AFFINE ? t->quantization.params : NULL;
  PyObject *data;
  if (t->allocation_type == TFL_MMAP_RO && t->data) {
    data = view(t->data, t->bytes, PyBUF_READ);
  } else {
    data = Py_NewRef(Py_None);
  }
  return Py_BuildValue("(siN(fi)iNiNNiNiN)", t->name ? t->name : "", t->type, ints(t->dims),
                       (double)t->params.scale, (int)t->params.zero_point, t->allocation_type, data,
                       t->quantization.type, floats(affine ? affine->scale : NULL),
                       ints(affine ? affine->zero_point : NULL),
                       affine ? affine->quantized_dimension : 0,
                       PyBool_FromLong(t->sparsity != NULL), (int)t->is_variable,
                       ints(t->dims_signature));
}

PyObject *tensor_rows(const TflContext *context) {
  Py_ssize_t count = (Py_ssize_t)context->tensors_size;
  PyObject *list = PyList_New(count);
  for (Py_ssize_t i = 0; list && i < count; i++) {
    PyObject *row = tensor_row(&context->tensors[i]);
    if (!row)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, row);
  }
  return list;
}

/* The fields of NodeRow. The builtin options are passed as an address, because their size depends
 * on the operator. */
static PyObject *node_row(TflContext *context, int number) {
  TflNode *node = NULL;
  TflRegistration *about = NULL;
  if (context->GetNodeAndRegistration(context, number, &node, &about) || !node || !about)
    return PyErr_Format(PyExc_RuntimeError, "the runtime does not show node %d", number);
  Py_ssize_t size = node->custom_initial_data ? node->custom_initial_data_size : 0;
  return Py_BuildValue("(iisiNNNy#)", number, (int)about->builtin_code,
                       about->custom_name ? about->custom_name : "", about->version,
                       ints(node->inputs), ints(node->outputs),
                       PyLong_FromVoidPtr(node->builtin_data),
                       size ? (const char *)node->custom_initial_data : "", size);
}

PyObject *node_rows(TflContext *context, const TflIntArray *numbers) {
  PyObject *list = PyList_New(numbers->size);
  for (int i = 0; list && i < numbers->size; i++) {
    PyObject *row = node_row(context, numbers->data[i]);
    if (!row)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, row);
  }
  return list;
}

TflIntArray *int_array(PyObject *sequence) {
  PyObject *fast = PySequence_Fast(sequence, "must be a sequence of integers");
  if (!fast)
    return NULL;
  int count = (int)PySequence_Fast_GET_SIZE(fast);
  TflIntArray *array = malloc(sizeof *array + sizeof(int) * (size_t)count);
  if (array)
    array->size = count;
  else
    PyErr_NoMemory();
  for (int i = 0; array && i < count; i++) {
    array->data[i] = (int)PyLong_AsLong(PySequence_Fast_GET_ITEM(fast, i));
    if (array->data[i] == -1 && PyErr_Occurred()) {
      free(array);
      array = NULL;
    }
  }
  Py_DECREF(fast);
  return array;
}
