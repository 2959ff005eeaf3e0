# A status becomes an exception; Ctrl-C is asked about.

cdef object _no_isa(isa):
    """The exception of an instruction set that is not there, asked for by argument or by the environment."""
    asked = f"isa={isa!r}" if isa is not None else f"FASTBP_ISA={os.environ.get('FASTBP_ISA')!r}"
    return _error(FBP_NO_ISA, f"have {', '.join(isa_names())}, got {asked}")


cdef object _error(int status, str detail):
    """The exception of a status."""
    text = fbp_status_text(status).decode() + (": " + detail if detail else "")
    if status == FBP_NO_MEMORY:
        return MemoryError(text)
    if status == FBP_NO_FORWARD:
        return RuntimeError(text)
    return ValueError(text)


cdef extern from "Python.h":
    int PyOS_InterruptOccurred()
    void PyErr_SetInterrupt()


cdef int _interrupted() noexcept with gil:
    """Whether Ctrl-C is pending. Asking takes the signal, so it is put back, for PyErr_CheckSignals to raise it."""
    if not PyOS_InterruptOccurred():
        return 0
    PyErr_SetInterrupt()
    return 1
