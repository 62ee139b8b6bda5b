# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:http/types@0.2.12``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.bindings.wasi_clocks_monotonic_clock import DURATION, Duration
from aegis.bindings.wasi_io_error import ERROR as IO_ERROR
from aegis.bindings.wasi_io_error import Error as IoError
from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.bindings.wasi_io_streams import INPUT_STREAM, OUTPUT_STREAM, InputStream, OutputStream
from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Record, Resource, Result, Tuple, Variant
from aegis.wit.values import Err, Ok

__all__ = [
    "DNS_ERROR_PAYLOAD",
    "DURATION",
    "ERROR_CODE",
    "FIELDS",
    "FIELD_KEY",
    "FIELD_NAME",
    "FIELD_SIZE_PAYLOAD",
    "FIELD_VALUE",
    "FUTURE_INCOMING_RESPONSE",
    "FUTURE_TRAILERS",
    "HEADERS",
    "HEADER_ERROR",
    "INCOMING_BODY",
    "INCOMING_REQUEST",
    "INCOMING_RESPONSE",
    "INPUT_STREAM",
    "INTERFACE",
    "IO_ERROR",
    "METHOD",
    "OUTGOING_BODY",
    "OUTGOING_REQUEST",
    "OUTGOING_RESPONSE",
    "OUTPUT_STREAM",
    "POLLABLE",
    "REQUEST_OPTIONS",
    "RESPONSE_OUTPARAM",
    "SCHEME",
    "STATUS_CODE",
    "TLS_ALERT_RECEIVED_PAYLOAD",
    "TRAILERS",
    "DnsErrorPayload",
    "Duration",
    "ErrorCode",
    "ErrorCodeConfigurationError",
    "ErrorCodeConnectionLimitReached",
    "ErrorCodeConnectionReadTimeout",
    "ErrorCodeConnectionRefused",
    "ErrorCodeConnectionTerminated",
    "ErrorCodeConnectionTimeout",
    "ErrorCodeConnectionWriteTimeout",
    "ErrorCodeDestinationIpProhibited",
    "ErrorCodeDestinationIpUnroutable",
    "ErrorCodeDestinationNotFound",
    "ErrorCodeDestinationUnavailable",
    "ErrorCodeDnsError",
    "ErrorCodeDnsTimeout",
    "ErrorCodeHttpProtocolError",
    "ErrorCodeHttpRequestBodySize",
    "ErrorCodeHttpRequestDenied",
    "ErrorCodeHttpRequestHeaderSectionSize",
    "ErrorCodeHttpRequestHeaderSize",
    "ErrorCodeHttpRequestLengthRequired",
    "ErrorCodeHttpRequestMethodInvalid",
    "ErrorCodeHttpRequestTrailerSectionSize",
    "ErrorCodeHttpRequestTrailerSize",
    "ErrorCodeHttpRequestUriInvalid",
    "ErrorCodeHttpRequestUriTooLong",
    "ErrorCodeHttpResponseBodySize",
    "ErrorCodeHttpResponseContentCoding",
    "ErrorCodeHttpResponseHeaderSectionSize",
    "ErrorCodeHttpResponseHeaderSize",
    "ErrorCodeHttpResponseIncomplete",
    "ErrorCodeHttpResponseTimeout",
    "ErrorCodeHttpResponseTrailerSectionSize",
    "ErrorCodeHttpResponseTrailerSize",
    "ErrorCodeHttpResponseTransferCoding",
    "ErrorCodeHttpUpgradeFailed",
    "ErrorCodeInternalError",
    "ErrorCodeLoopDetected",
    "ErrorCodeTlsAlertReceived",
    "ErrorCodeTlsCertificateError",
    "ErrorCodeTlsProtocolError",
    "FieldKey",
    "FieldName",
    "FieldSizePayload",
    "FieldValue",
    "Fields",
    "FieldsClass",
    "FutureIncomingResponse",
    "FutureTrailers",
    "HeaderError",
    "HeaderErrorForbidden",
    "HeaderErrorImmutable",
    "HeaderErrorInvalidSyntax",
    "Headers",
    "Host",
    "IncomingBody",
    "IncomingBodyClass",
    "IncomingRequest",
    "IncomingResponse",
    "InputStream",
    "IoError",
    "Method",
    "MethodConnect",
    "MethodDelete",
    "MethodGet",
    "MethodHead",
    "MethodOptions",
    "MethodOther",
    "MethodPatch",
    "MethodPost",
    "MethodPut",
    "MethodTrace",
    "OutgoingBody",
    "OutgoingBodyClass",
    "OutgoingRequest",
    "OutgoingRequestClass",
    "OutgoingResponse",
    "OutgoingResponseClass",
    "OutputStream",
    "Pollable",
    "RequestOptions",
    "RequestOptionsClass",
    "ResponseOutparam",
    "ResponseOutparamClass",
    "Scheme",
    "SchemeHttp",
    "SchemeHttps",
    "SchemeOther",
    "StatusCode",
    "TlsAlertReceivedPayload",
    "Trailers",
]


@dataclass(frozen=True, slots=True)
class MethodGet:
    """``get`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodHead:
    """``head`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodPost:
    """``post`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodPut:
    """``put`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodDelete:
    """``delete`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodConnect:
    """``connect`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """``options`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodTrace:
    """``trace`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodPatch:
    """``patch`` of ``method``."""


@dataclass(frozen=True, slots=True)
class MethodOther:
    """``other`` of ``method``."""

    value: str


Method: TypeAlias = (
    MethodGet
    | MethodHead
    | MethodPost
    | MethodPut
    | MethodDelete
    | MethodConnect
    | MethodOptions
    | MethodTrace
    | MethodPatch
    | MethodOther
)


@dataclass(frozen=True, slots=True)
class SchemeHttp:
    """``HTTP`` of ``scheme``."""


@dataclass(frozen=True, slots=True)
class SchemeHttps:
    """``HTTPS`` of ``scheme``."""


@dataclass(frozen=True, slots=True)
class SchemeOther:
    """``other`` of ``scheme``."""

    value: str


Scheme: TypeAlias = SchemeHttp | SchemeHttps | SchemeOther


@dataclass(frozen=True, slots=True)
class DnsErrorPayload:
    """The record ``DNS-error-payload``."""

    rcode: str | None
    info_code: int | None


@dataclass(frozen=True, slots=True)
class TlsAlertReceivedPayload:
    """The record ``TLS-alert-received-payload``."""

    alert_id: int | None
    alert_message: str | None


@dataclass(frozen=True, slots=True)
class FieldSizePayload:
    """The record ``field-size-payload``."""

    field_name: str | None
    field_size: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeDnsTimeout:
    """``DNS-timeout`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeDnsError:
    """``DNS-error`` of ``error-code``."""

    value: DnsErrorPayload


@dataclass(frozen=True, slots=True)
class ErrorCodeDestinationNotFound:
    """``destination-not-found`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeDestinationUnavailable:
    """``destination-unavailable`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeDestinationIpProhibited:
    """``destination-IP-prohibited`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeDestinationIpUnroutable:
    """``destination-IP-unroutable`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionRefused:
    """``connection-refused`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionTerminated:
    """``connection-terminated`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionTimeout:
    """``connection-timeout`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionReadTimeout:
    """``connection-read-timeout`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionWriteTimeout:
    """``connection-write-timeout`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConnectionLimitReached:
    """``connection-limit-reached`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeTlsProtocolError:
    """``TLS-protocol-error`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeTlsCertificateError:
    """``TLS-certificate-error`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeTlsAlertReceived:
    """``TLS-alert-received`` of ``error-code``."""

    value: TlsAlertReceivedPayload


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestDenied:
    """``HTTP-request-denied`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestLengthRequired:
    """``HTTP-request-length-required`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestBodySize:
    """``HTTP-request-body-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestMethodInvalid:
    """``HTTP-request-method-invalid`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestUriInvalid:
    """``HTTP-request-URI-invalid`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestUriTooLong:
    """``HTTP-request-URI-too-long`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestHeaderSectionSize:
    """``HTTP-request-header-section-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestHeaderSize:
    """``HTTP-request-header-size`` of ``error-code``."""

    value: FieldSizePayload | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestTrailerSectionSize:
    """``HTTP-request-trailer-section-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpRequestTrailerSize:
    """``HTTP-request-trailer-size`` of ``error-code``."""

    value: FieldSizePayload


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseIncomplete:
    """``HTTP-response-incomplete`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseHeaderSectionSize:
    """``HTTP-response-header-section-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseHeaderSize:
    """``HTTP-response-header-size`` of ``error-code``."""

    value: FieldSizePayload


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseBodySize:
    """``HTTP-response-body-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseTrailerSectionSize:
    """``HTTP-response-trailer-section-size`` of ``error-code``."""

    value: int | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseTrailerSize:
    """``HTTP-response-trailer-size`` of ``error-code``."""

    value: FieldSizePayload


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseTransferCoding:
    """``HTTP-response-transfer-coding`` of ``error-code``."""

    value: str | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseContentCoding:
    """``HTTP-response-content-coding`` of ``error-code``."""

    value: str | None


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpResponseTimeout:
    """``HTTP-response-timeout`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpUpgradeFailed:
    """``HTTP-upgrade-failed`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeHttpProtocolError:
    """``HTTP-protocol-error`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeLoopDetected:
    """``loop-detected`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeConfigurationError:
    """``configuration-error`` of ``error-code``."""


@dataclass(frozen=True, slots=True)
class ErrorCodeInternalError:
    """``internal-error`` of ``error-code``."""

    value: str | None


ErrorCode: TypeAlias = (
    ErrorCodeDnsTimeout
    | ErrorCodeDnsError
    | ErrorCodeDestinationNotFound
    | ErrorCodeDestinationUnavailable
    | ErrorCodeDestinationIpProhibited
    | ErrorCodeDestinationIpUnroutable
    | ErrorCodeConnectionRefused
    | ErrorCodeConnectionTerminated
    | ErrorCodeConnectionTimeout
    | ErrorCodeConnectionReadTimeout
    | ErrorCodeConnectionWriteTimeout
    | ErrorCodeConnectionLimitReached
    | ErrorCodeTlsProtocolError
    | ErrorCodeTlsCertificateError
    | ErrorCodeTlsAlertReceived
    | ErrorCodeHttpRequestDenied
    | ErrorCodeHttpRequestLengthRequired
    | ErrorCodeHttpRequestBodySize
    | ErrorCodeHttpRequestMethodInvalid
    | ErrorCodeHttpRequestUriInvalid
    | ErrorCodeHttpRequestUriTooLong
    | ErrorCodeHttpRequestHeaderSectionSize
    | ErrorCodeHttpRequestHeaderSize
    | ErrorCodeHttpRequestTrailerSectionSize
    | ErrorCodeHttpRequestTrailerSize
    | ErrorCodeHttpResponseIncomplete
    | ErrorCodeHttpResponseHeaderSectionSize
    | ErrorCodeHttpResponseHeaderSize
    | ErrorCodeHttpResponseBodySize
    | ErrorCodeHttpResponseTrailerSectionSize
    | ErrorCodeHttpResponseTrailerSize
    | ErrorCodeHttpResponseTransferCoding
    | ErrorCodeHttpResponseContentCoding
    | ErrorCodeHttpResponseTimeout
    | ErrorCodeHttpUpgradeFailed
    | ErrorCodeHttpProtocolError
    | ErrorCodeLoopDetected
    | ErrorCodeConfigurationError
    | ErrorCodeInternalError
)


@dataclass(frozen=True, slots=True)
class HeaderErrorInvalidSyntax:
    """``invalid-syntax`` of ``header-error``."""


@dataclass(frozen=True, slots=True)
class HeaderErrorForbidden:
    """``forbidden`` of ``header-error``."""


@dataclass(frozen=True, slots=True)
class HeaderErrorImmutable:
    """``immutable`` of ``header-error``."""


HeaderError: TypeAlias = HeaderErrorInvalidSyntax | HeaderErrorForbidden | HeaderErrorImmutable

FieldKey: TypeAlias = str

FieldName: TypeAlias = FieldKey

FieldValue: TypeAlias = bytes


class Fields(Protocol):
    """The resource ``fields``."""

    def get(self, name: FieldName) -> list[FieldValue]: ...

    def has(self, name: FieldName) -> bool: ...

    def set_(self, name: FieldName, value: list[FieldValue]) -> Err[HeaderError] | None: ...

    def delete(self, name: FieldName) -> Err[HeaderError] | None: ...

    def append(self, name: FieldName, value: FieldValue) -> Err[HeaderError] | None: ...

    def entries(self) -> list[tuple[FieldName, FieldValue]]: ...

    def clone(self) -> Fields: ...


Headers: TypeAlias = Fields

Trailers: TypeAlias = Fields


class IncomingRequest(Protocol):
    """The resource ``incoming-request``."""

    def method(self) -> Method: ...

    def path_with_query(self) -> str | None: ...

    def scheme(self) -> Scheme | None: ...

    def authority(self) -> str | None: ...

    def headers(self) -> Headers: ...

    def consume(self) -> IncomingBody | Err[None]: ...


class OutgoingRequest(Protocol):
    """The resource ``outgoing-request``."""

    def body(self) -> OutgoingBody | Err[None]: ...

    def method(self) -> Method: ...

    def set_method(self, method: Method) -> Err[None] | None: ...

    def path_with_query(self) -> str | None: ...

    def set_path_with_query(self, path_with_query: str | None) -> Err[None] | None: ...

    def scheme(self) -> Scheme | None: ...

    def set_scheme(self, scheme: Scheme | None) -> Err[None] | None: ...

    def authority(self) -> str | None: ...

    def set_authority(self, authority: str | None) -> Err[None] | None: ...

    def headers(self) -> Headers: ...


class RequestOptions(Protocol):
    """The resource ``request-options``."""

    def connect_timeout(self) -> Duration | None: ...

    def set_connect_timeout(self, duration: Duration | None) -> Err[None] | None: ...

    def first_byte_timeout(self) -> Duration | None: ...

    def set_first_byte_timeout(self, duration: Duration | None) -> Err[None] | None: ...

    def between_bytes_timeout(self) -> Duration | None: ...

    def set_between_bytes_timeout(self, duration: Duration | None) -> Err[None] | None: ...


class ResponseOutparam(Protocol):
    """The resource ``response-outparam``."""


StatusCode: TypeAlias = int


class IncomingResponse(Protocol):
    """The resource ``incoming-response``."""

    def status(self) -> StatusCode: ...

    def headers(self) -> Headers: ...

    def consume(self) -> IncomingBody | Err[None]: ...


class IncomingBody(Protocol):
    """The resource ``incoming-body``."""

    def stream(self) -> InputStream | Err[None]: ...


class FutureTrailers(Protocol):
    """The resource ``future-trailers``."""

    def subscribe(self) -> Pollable: ...

    def get(self) -> Ok[Ok[Trailers | None] | Err[ErrorCode]] | Err[None] | None: ...


class OutgoingResponse(Protocol):
    """The resource ``outgoing-response``."""

    def status_code(self) -> StatusCode: ...

    def set_status_code(self, status_code: StatusCode) -> Err[None] | None: ...

    def headers(self) -> Headers: ...

    def body(self) -> OutgoingBody | Err[None]: ...


class OutgoingBody(Protocol):
    """The resource ``outgoing-body``."""

    def write(self) -> OutputStream | Err[None]: ...


class FutureIncomingResponse(Protocol):
    """The resource ``future-incoming-response``."""

    def subscribe(self) -> Pollable: ...

    def get(self) -> Ok[Ok[IncomingResponse] | Err[ErrorCode]] | Err[None] | None: ...


class FieldsClass(Protocol):
    """The class of ``fields``: its constructor and static functions."""

    def __call__(self) -> Fields: ...

    def from_list(self, entries: list[tuple[FieldName, FieldValue]]) -> Fields | Err[HeaderError]: ...


class OutgoingRequestClass(Protocol):
    """The class of ``outgoing-request``: its constructor and static functions."""

    def __call__(self, headers: Headers) -> OutgoingRequest: ...


class RequestOptionsClass(Protocol):
    """The class of ``request-options``: its constructor and static functions."""

    def __call__(self) -> RequestOptions: ...


class ResponseOutparamClass(Protocol):
    """The class of ``response-outparam``: its constructor and static functions."""

    def set_(self, param: ResponseOutparam, response: Ok[OutgoingResponse] | Err[ErrorCode]) -> None: ...


class IncomingBodyClass(Protocol):
    """The class of ``incoming-body``: its constructor and static functions."""

    def finish(self, this: IncomingBody) -> FutureTrailers: ...


class OutgoingResponseClass(Protocol):
    """The class of ``outgoing-response``: its constructor and static functions."""

    def __call__(self, headers: Headers) -> OutgoingResponse: ...


class OutgoingBodyClass(Protocol):
    """The class of ``outgoing-body``: its constructor and static functions."""

    def finish(self, this: OutgoingBody, trailers: Trailers | None) -> Err[ErrorCode] | None: ...


class Resources(Protocol):
    """The classes of the resources that are made by functions of their own."""

    @property
    def Fields(self) -> FieldsClass: ...

    @property
    def OutgoingRequest(self) -> OutgoingRequestClass: ...

    @property
    def RequestOptions(self) -> RequestOptionsClass: ...

    @property
    def ResponseOutparam(self) -> ResponseOutparamClass: ...

    @property
    def IncomingBody(self) -> IncomingBodyClass: ...

    @property
    def OutgoingResponse(self) -> OutgoingResponseClass: ...

    @property
    def OutgoingBody(self) -> OutgoingBodyClass: ...


class Host(Resources, Protocol):
    """What Python provides to a guest that imports the interface."""

    def http_error_code(self, err: IoError) -> ErrorCode | None: ...


_NAME = "wasi:http/types@0.2.12"

METHOD = Variant(
    "method",
    (
        ("get", None),
        ("head", None),
        ("post", None),
        ("put", None),
        ("delete", None),
        ("connect", None),
        ("options", None),
        ("trace", None),
        ("patch", None),
        ("other", "string"),
    ),
    python=(
        MethodGet,
        MethodHead,
        MethodPost,
        MethodPut,
        MethodDelete,
        MethodConnect,
        MethodOptions,
        MethodTrace,
        MethodPatch,
        MethodOther,
    ),
    owner=_NAME,
)
SCHEME = Variant(
    "scheme",
    (("HTTP", None), ("HTTPS", None), ("other", "string")),
    python=(SchemeHttp, SchemeHttps, SchemeOther),
    owner=_NAME,
)
DNS_ERROR_PAYLOAD = Record(
    "DNS-error-payload",
    (("rcode", Option("string")), ("info-code", Option("u16"))),
    python=DnsErrorPayload,
    owner=_NAME,
)
TLS_ALERT_RECEIVED_PAYLOAD = Record(
    "TLS-alert-received-payload",
    (("alert-id", Option("u8")), ("alert-message", Option("string"))),
    python=TlsAlertReceivedPayload,
    owner=_NAME,
)
FIELD_SIZE_PAYLOAD = Record(
    "field-size-payload",
    (("field-name", Option("string")), ("field-size", Option("u32"))),
    python=FieldSizePayload,
    owner=_NAME,
)
ERROR_CODE = Variant(
    "error-code",
    (
        ("DNS-timeout", None),
        ("DNS-error", DNS_ERROR_PAYLOAD),
        ("destination-not-found", None),
        ("destination-unavailable", None),
        ("destination-IP-prohibited", None),
        ("destination-IP-unroutable", None),
        ("connection-refused", None),
        ("connection-terminated", None),
        ("connection-timeout", None),
        ("connection-read-timeout", None),
        ("connection-write-timeout", None),
        ("connection-limit-reached", None),
        ("TLS-protocol-error", None),
        ("TLS-certificate-error", None),
        ("TLS-alert-received", TLS_ALERT_RECEIVED_PAYLOAD),
        ("HTTP-request-denied", None),
        ("HTTP-request-length-required", None),
        ("HTTP-request-body-size", Option("u64")),
        ("HTTP-request-method-invalid", None),
        ("HTTP-request-URI-invalid", None),
        ("HTTP-request-URI-too-long", None),
        ("HTTP-request-header-section-size", Option("u32")),
        ("HTTP-request-header-size", Option(FIELD_SIZE_PAYLOAD)),
        ("HTTP-request-trailer-section-size", Option("u32")),
        ("HTTP-request-trailer-size", FIELD_SIZE_PAYLOAD),
        ("HTTP-response-incomplete", None),
        ("HTTP-response-header-section-size", Option("u32")),
        ("HTTP-response-header-size", FIELD_SIZE_PAYLOAD),
        ("HTTP-response-body-size", Option("u64")),
        ("HTTP-response-trailer-section-size", Option("u32")),
        ("HTTP-response-trailer-size", FIELD_SIZE_PAYLOAD),
        ("HTTP-response-transfer-coding", Option("string")),
        ("HTTP-response-content-coding", Option("string")),
        ("HTTP-response-timeout", None),
        ("HTTP-upgrade-failed", None),
        ("HTTP-protocol-error", None),
        ("loop-detected", None),
        ("configuration-error", None),
        ("internal-error", Option("string")),
    ),
    python=(
        ErrorCodeDnsTimeout,
        ErrorCodeDnsError,
        ErrorCodeDestinationNotFound,
        ErrorCodeDestinationUnavailable,
        ErrorCodeDestinationIpProhibited,
        ErrorCodeDestinationIpUnroutable,
        ErrorCodeConnectionRefused,
        ErrorCodeConnectionTerminated,
        ErrorCodeConnectionTimeout,
        ErrorCodeConnectionReadTimeout,
        ErrorCodeConnectionWriteTimeout,
        ErrorCodeConnectionLimitReached,
        ErrorCodeTlsProtocolError,
        ErrorCodeTlsCertificateError,
        ErrorCodeTlsAlertReceived,
        ErrorCodeHttpRequestDenied,
        ErrorCodeHttpRequestLengthRequired,
        ErrorCodeHttpRequestBodySize,
        ErrorCodeHttpRequestMethodInvalid,
        ErrorCodeHttpRequestUriInvalid,
        ErrorCodeHttpRequestUriTooLong,
        ErrorCodeHttpRequestHeaderSectionSize,
        ErrorCodeHttpRequestHeaderSize,
        ErrorCodeHttpRequestTrailerSectionSize,
        ErrorCodeHttpRequestTrailerSize,
        ErrorCodeHttpResponseIncomplete,
        ErrorCodeHttpResponseHeaderSectionSize,
        ErrorCodeHttpResponseHeaderSize,
        ErrorCodeHttpResponseBodySize,
        ErrorCodeHttpResponseTrailerSectionSize,
        ErrorCodeHttpResponseTrailerSize,
        ErrorCodeHttpResponseTransferCoding,
        ErrorCodeHttpResponseContentCoding,
        ErrorCodeHttpResponseTimeout,
        ErrorCodeHttpUpgradeFailed,
        ErrorCodeHttpProtocolError,
        ErrorCodeLoopDetected,
        ErrorCodeConfigurationError,
        ErrorCodeInternalError,
    ),
    owner=_NAME,
)
HEADER_ERROR = Variant(
    "header-error",
    (("invalid-syntax", None), ("forbidden", None), ("immutable", None)),
    python=(HeaderErrorInvalidSyntax, HeaderErrorForbidden, HeaderErrorImmutable),
    owner=_NAME,
)
FIELD_KEY = "string"
FIELD_NAME = FIELD_KEY
FIELD_VALUE = List("u8")
FIELDS = Resource("fields", python=Fields, owner=_NAME)
HEADERS = FIELDS
TRAILERS = FIELDS
INCOMING_REQUEST = Resource("incoming-request", python=IncomingRequest, owner=_NAME)
OUTGOING_REQUEST = Resource("outgoing-request", python=OutgoingRequest, owner=_NAME)
REQUEST_OPTIONS = Resource("request-options", python=RequestOptions, owner=_NAME)
RESPONSE_OUTPARAM = Resource("response-outparam", python=ResponseOutparam, owner=_NAME)
STATUS_CODE = "u16"
INCOMING_RESPONSE = Resource("incoming-response", python=IncomingResponse, owner=_NAME)
INCOMING_BODY = Resource("incoming-body", python=IncomingBody, owner=_NAME)
FUTURE_TRAILERS = Resource("future-trailers", python=FutureTrailers, owner=_NAME)
OUTGOING_RESPONSE = Resource("outgoing-response", python=OutgoingResponse, owner=_NAME)
OUTGOING_BODY = Resource("outgoing-body", python=OutgoingBody, owner=_NAME)
FUTURE_INCOMING_RESPONSE = Resource("future-incoming-response", python=FutureIncomingResponse, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "http-error-code": Function((("err", Borrow(IO_ERROR)),), Option(ERROR_CODE)),
        "[constructor]fields": Function((), Own(FIELDS)),
        "[static]fields.from-list": Function(
            (("entries", List(Tuple((FIELD_NAME, FIELD_VALUE)))),),
            Result(Own(FIELDS), HEADER_ERROR),
        ),
        "[method]fields.get": Function((("self", Borrow(FIELDS)), ("name", FIELD_NAME)), List(FIELD_VALUE)),
        "[method]fields.has": Function((("self", Borrow(FIELDS)), ("name", FIELD_NAME)), "bool"),
        "[method]fields.set": Function(
            (("self", Borrow(FIELDS)), ("name", FIELD_NAME), ("value", List(FIELD_VALUE))),
            Result(None, HEADER_ERROR),
        ),
        "[method]fields.delete": Function((("self", Borrow(FIELDS)), ("name", FIELD_NAME)), Result(None, HEADER_ERROR)),
        "[method]fields.append": Function(
            (("self", Borrow(FIELDS)), ("name", FIELD_NAME), ("value", FIELD_VALUE)),
            Result(None, HEADER_ERROR),
        ),
        "[method]fields.entries": Function((("self", Borrow(FIELDS)),), List(Tuple((FIELD_NAME, FIELD_VALUE)))),
        "[method]fields.clone": Function((("self", Borrow(FIELDS)),), Own(FIELDS)),
        "[method]incoming-request.method": Function((("self", Borrow(INCOMING_REQUEST)),), METHOD),
        "[method]incoming-request.path-with-query": Function((("self", Borrow(INCOMING_REQUEST)),), Option("string")),
        "[method]incoming-request.scheme": Function((("self", Borrow(INCOMING_REQUEST)),), Option(SCHEME)),
        "[method]incoming-request.authority": Function((("self", Borrow(INCOMING_REQUEST)),), Option("string")),
        "[method]incoming-request.headers": Function((("self", Borrow(INCOMING_REQUEST)),), Own(HEADERS)),
        "[method]incoming-request.consume": Function((("self", Borrow(INCOMING_REQUEST)),), Result(Own(INCOMING_BODY))),
        "[constructor]outgoing-request": Function((("headers", Own(HEADERS)),), Own(OUTGOING_REQUEST)),
        "[method]outgoing-request.body": Function((("self", Borrow(OUTGOING_REQUEST)),), Result(Own(OUTGOING_BODY))),
        "[method]outgoing-request.method": Function((("self", Borrow(OUTGOING_REQUEST)),), METHOD),
        "[method]outgoing-request.set-method": Function(
            (("self", Borrow(OUTGOING_REQUEST)), ("method", METHOD)),
            Result(),
        ),
        "[method]outgoing-request.path-with-query": Function((("self", Borrow(OUTGOING_REQUEST)),), Option("string")),
        "[method]outgoing-request.set-path-with-query": Function(
            (("self", Borrow(OUTGOING_REQUEST)), ("path-with-query", Option("string"))),
            Result(),
        ),
        "[method]outgoing-request.scheme": Function((("self", Borrow(OUTGOING_REQUEST)),), Option(SCHEME)),
        "[method]outgoing-request.set-scheme": Function(
            (("self", Borrow(OUTGOING_REQUEST)), ("scheme", Option(SCHEME))),
            Result(),
        ),
        "[method]outgoing-request.authority": Function((("self", Borrow(OUTGOING_REQUEST)),), Option("string")),
        "[method]outgoing-request.set-authority": Function(
            (("self", Borrow(OUTGOING_REQUEST)), ("authority", Option("string"))),
            Result(),
        ),
        "[method]outgoing-request.headers": Function((("self", Borrow(OUTGOING_REQUEST)),), Own(HEADERS)),
        "[constructor]request-options": Function((), Own(REQUEST_OPTIONS)),
        "[method]request-options.connect-timeout": Function((("self", Borrow(REQUEST_OPTIONS)),), Option(DURATION)),
        "[method]request-options.set-connect-timeout": Function(
            (("self", Borrow(REQUEST_OPTIONS)), ("duration", Option(DURATION))),
            Result(),
        ),
        "[method]request-options.first-byte-timeout": Function((("self", Borrow(REQUEST_OPTIONS)),), Option(DURATION)),
        "[method]request-options.set-first-byte-timeout": Function(
            (("self", Borrow(REQUEST_OPTIONS)), ("duration", Option(DURATION))),
            Result(),
        ),
        "[method]request-options.between-bytes-timeout": Function(
            (("self", Borrow(REQUEST_OPTIONS)),),
            Option(DURATION),
        ),
        "[method]request-options.set-between-bytes-timeout": Function(
            (("self", Borrow(REQUEST_OPTIONS)), ("duration", Option(DURATION))),
            Result(),
        ),
        "[static]response-outparam.set": Function(
            (("param", Own(RESPONSE_OUTPARAM)), ("response", Result(Own(OUTGOING_RESPONSE), ERROR_CODE))),
        ),
        "[method]incoming-response.status": Function((("self", Borrow(INCOMING_RESPONSE)),), STATUS_CODE),
        "[method]incoming-response.headers": Function((("self", Borrow(INCOMING_RESPONSE)),), Own(HEADERS)),
        "[method]incoming-response.consume": Function(
            (("self", Borrow(INCOMING_RESPONSE)),),
            Result(Own(INCOMING_BODY)),
        ),
        "[method]incoming-body.stream": Function((("self", Borrow(INCOMING_BODY)),), Result(Own(INPUT_STREAM))),
        "[static]incoming-body.finish": Function((("this", Own(INCOMING_BODY)),), Own(FUTURE_TRAILERS)),
        "[method]future-trailers.subscribe": Function((("self", Borrow(FUTURE_TRAILERS)),), Own(POLLABLE)),
        "[method]future-trailers.get": Function(
            (("self", Borrow(FUTURE_TRAILERS)),),
            Option(Result(Result(Option(Own(TRAILERS)), ERROR_CODE))),
        ),
        "[constructor]outgoing-response": Function((("headers", Own(HEADERS)),), Own(OUTGOING_RESPONSE)),
        "[method]outgoing-response.status-code": Function((("self", Borrow(OUTGOING_RESPONSE)),), STATUS_CODE),
        "[method]outgoing-response.set-status-code": Function(
            (("self", Borrow(OUTGOING_RESPONSE)), ("status-code", STATUS_CODE)),
            Result(),
        ),
        "[method]outgoing-response.headers": Function((("self", Borrow(OUTGOING_RESPONSE)),), Own(HEADERS)),
        "[method]outgoing-response.body": Function((("self", Borrow(OUTGOING_RESPONSE)),), Result(Own(OUTGOING_BODY))),
        "[method]outgoing-body.write": Function((("self", Borrow(OUTGOING_BODY)),), Result(Own(OUTPUT_STREAM))),
        "[static]outgoing-body.finish": Function(
            (("this", Own(OUTGOING_BODY)), ("trailers", Option(Own(TRAILERS)))),
            Result(None, ERROR_CODE),
        ),
        "[method]future-incoming-response.subscribe": Function(
            (("self", Borrow(FUTURE_INCOMING_RESPONSE)),),
            Own(POLLABLE),
        ),
        "[method]future-incoming-response.get": Function(
            (("self", Borrow(FUTURE_INCOMING_RESPONSE)),),
            Option(Result(Result(Own(INCOMING_RESPONSE), ERROR_CODE))),
        ),
    },
    types={
        "duration": DURATION,
        "input-stream": INPUT_STREAM,
        "output-stream": OUTPUT_STREAM,
        "io-error": IO_ERROR,
        "pollable": POLLABLE,
        "method": METHOD,
        "scheme": SCHEME,
        "DNS-error-payload": DNS_ERROR_PAYLOAD,
        "TLS-alert-received-payload": TLS_ALERT_RECEIVED_PAYLOAD,
        "field-size-payload": FIELD_SIZE_PAYLOAD,
        "error-code": ERROR_CODE,
        "header-error": HEADER_ERROR,
        "field-key": FIELD_KEY,
        "field-name": FIELD_NAME,
        "field-value": FIELD_VALUE,
        "fields": FIELDS,
        "headers": HEADERS,
        "trailers": TRAILERS,
        "incoming-request": INCOMING_REQUEST,
        "outgoing-request": OUTGOING_REQUEST,
        "request-options": REQUEST_OPTIONS,
        "response-outparam": RESPONSE_OUTPARAM,
        "status-code": STATUS_CODE,
        "incoming-response": INCOMING_RESPONSE,
        "incoming-body": INCOMING_BODY,
        "future-trailers": FUTURE_TRAILERS,
        "outgoing-response": OUTGOING_RESPONSE,
        "outgoing-body": OUTGOING_BODY,
        "future-incoming-response": FUTURE_INCOMING_RESPONSE,
    },
)
