# The two calls of the hot path as functions that get their arguments in a C array: a tuple of them costs 40 ns a call. From the stable
# ABI of Python 3.12 on Cython does so by itself, and they can be methods.

from cpython.object cimport PyCFunction, PyObject

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    int METH_FASTCALL
    object PyCFunction_NewEx(PyMethodDef *method, void *itself, void *module)

cdef PyMethodDef _train_step_method, _predict_method


cdef object _with_arguments(PyMethodDef *method, const char *name, void *function, const char *doc):
    method.ml_name = name
    method.ml_meth = <PyCFunction>function
    method.ml_flags = METH_FASTCALL
    method.ml_doc = doc
    return PyCFunction_NewEx(method, NULL, NULL)


cdef object _train_step(void *module, PyObject **argument, Py_ssize_t count):
    if count != 4:
        raise TypeError(f"train_step takes 4 arguments, got {count}")
    return (<Plan?><object>argument[0])._train_step(<object>argument[1], <object>argument[2], <object>argument[3])


cdef object _predict(void *module, PyObject **argument, Py_ssize_t count):
    if count != 3:
        raise TypeError(f"predict takes 3 arguments, got {count}")
    return (<Plan?><object>argument[0])._predict_rows(<object>argument[1], <object>argument[2])


train_step = _with_arguments(&_train_step_method, "train_step", <void *>_train_step, "plan, x, y, weights: plan.train_step(x, y, weights)")
predict = _with_arguments(&_predict_method, "predict", <void *>_predict, "plan, x, out: plan.predict(x, out)")
