//! JSON values as Python objects, and back.

use mcpctl_core::resource::{Kind, Spec};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple},
};
use serde_json::{Map, Number, Value};

/// As deep as the server reads.
const MAX_DEPTH: usize = 128;

/// The Python form of a JSON value.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => number_to_python(py, number)?,
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

fn number_to_python<'py>(py: Python<'py>, number: &Number) -> PyResult<Bound<'py, PyAny>> {
    if let Some(number) = number.as_i64() {
        return Ok(number.into_pyobject(py)?.into_any());
    }
    if let Some(number) = number.as_u64() {
        return Ok(number.into_pyobject(py)?.into_any());
    }
    Ok(number.as_f64().into_pyobject(py)?)
}

/// A JSON object from a Python mapping.
pub(crate) fn fields(object: &Bound<'_, PyAny>) -> PyResult<Spec> {
    match to_json(object, 0)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(PyTypeError::new_err("expected a dict")),
    }
}

/// A JSON value from a Python object.
pub(crate) fn json(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    to_json(object, 0)
}

fn to_json(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    // A bool is an int too, so it comes first.
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(value.is_true().into());
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    if object.is_instance_of::<PyInt>() {
        return whole_number(object);
    }
    if let Ok(number) = object.cast::<PyFloat>() {
        let number = Number::from_f64(number.value());
        return number
            .map(Value::Number)
            .ok_or_else(|| PyValueError::new_err("JSON has no NaN and no infinity"));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        return object.try_iter()?.map(|item| to_json(&item?, depth + 1)).collect();
    }
    if let Ok(mapping) = object.cast::<PyMapping>() {
        return object_of(mapping, depth).map(Value::Object);
    }
    let kind = object.get_type().name()?;
    Err(PyTypeError::new_err(format!("JSON has no form for an object of type {kind}")))
}

fn whole_number(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(number) = object.extract::<i64>() {
        return Ok(number.into());
    }
    let number: Option<u64> = object.extract().ok();
    number.map(Value::from).ok_or_else(|| PyValueError::new_err("the number does not fit 64 bits"))
}

fn object_of(mapping: &Bound<'_, PyMapping>, depth: usize) -> PyResult<Map<String, Value>> {
    let mut object = Map::new();
    for item in mapping.items()?.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        let name = name.cast::<PyString>().map_err(|_| PyTypeError::new_err("names in JSON are strings"))?;
        object.insert(name.to_cow()?.into_owned(), to_json(&value, depth + 1)?);
    }
    Ok(object)
}

/// The kind of this plural.
pub(crate) fn kind(plural: &str) -> PyResult<Kind> {
    Kind::parse(plural)
        .ok_or_else(|| PyValueError::new_err(format!("no kind of resource is called `{plural}`")))
}
