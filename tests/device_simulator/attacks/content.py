"""Attacks on the content, by an enrolled device that was taken over."""

from tests.device_simulator.signing import to_json

from .scene import Catalogue, Forgery, Scene, without

CATALOGUE = Catalogue()


@CATALOGUE.refused_as("json_invalid")
def _not_json(scene: Scene) -> Forgery:
    return scene.signed_bytes(to_json(scene.claims())[:-1])


@CATALOGUE.refused_as("json_invalid")
def _not_an_object(scene: Scene) -> Forgery:
    return scene.signed_bytes(to_json([scene.claims()]))


@CATALOGUE.refused_as("json_invalid")
def _byte_order_mark(scene: Scene) -> Forgery:
    return scene.signed_bytes(b"\xef\xbb\xbf" + to_json(scene.claims()))


@CATALOGUE.refused_as("json_invalid")
def _nul(scene: Scene) -> Forgery:
    return scene.signed_meta(b'"a\\u0000b"')


@CATALOGUE.refused_as("json_too_deep")
def _nested_one_too_deep(scene: Scene) -> Forgery:
    return scene.signed_meta(b"[[[1]]]")


@CATALOGUE.refused_as("json_too_deep")
def _nested_thousands_deep(scene: Scene) -> Forgery:
    return scene.signed_metric(b"[" * 5000 + b"]" * 5000)


@CATALOGUE.refused_as("json_duplicate_key")
def _duplicate_key(scene: Scene) -> Forgery:
    return scene.signed_bytes(to_json(scene.claims())[:-1] + f',"metrics":{{"{scene.metric}":30}}}}'.encode())


@CATALOGUE.refused_as("json_duplicate_key")
def _duplicate_metric(scene: Scene) -> Forgery:
    return scene.signed_metric(f'21,"{scene.metric}":30'.encode())


@CATALOGUE.refused_as("not_utf8")
def _not_utf8(scene: Scene) -> Forgery:
    return scene.signed_meta(b'"\xff\xfe"')


@CATALOGUE.refused_as("number_not_finite")
def _nan(scene: Scene) -> Forgery:
    return scene.signed_metric(b"NaN")


@CATALOGUE.refused_as("number_not_finite")
def _infinity(scene: Scene) -> Forgery:
    return scene.signed_metric(b"-Infinity")


@CATALOGUE.refused_as("number_not_finite")
def _number_that_overflows(scene: Scene) -> Forgery:
    return scene.signed_metric(b"1e999")


@CATALOGUE.refused_as("number_out_of_range")
def _two_to_the_64(scene: Scene) -> Forgery:
    return scene.signed_metric(str(2**64).encode())


@CATALOGUE.refused_as("number_out_of_range")
def _number_of_a_thousand_digits(scene: Scene) -> Forgery:
    return scene.signed_metric(b"-" + b"9" * 1000)


@CATALOGUE.refused_as("field_missing")
def _no_metrics(scene: Scene) -> Forgery:
    return scene.signed(without(scene.claims(), "metrics"))


@CATALOGUE.refused_as("field_invalid")
def _metrics_empty(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={}))


@CATALOGUE.refused_as("field_invalid")
def _metrics_too_many(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={f"m{i}": i for i in range(65)}))


@CATALOGUE.refused_as("field_invalid")
def _time_as_text(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(ts="yesterday"))


@CATALOGUE.refused_as("field_invalid")
def _meta_too_many(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(meta={f"m{i}": "x" for i in range(17)}))


@CATALOGUE.refused_as("field_unknown")
def _extra_key(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(admin=True))


@CATALOGUE.refused_as("metric_unknown")
def _metric_unknown(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: 21.5, "temp_kelvin": 294.6}))


@CATALOGUE.refused_as("metric_not_granted")
def _metric_not_granted(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: 21.5, scene.not_granted: 6.0}))


@CATALOGUE.refused_as("metric_type")
def _text_as_number(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: "21.5"}))


@CATALOGUE.refused_as("metric_type")
def _boolean_as_number(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: True}))


@CATALOGUE.refused_as("metric_type")
def _null_as_number(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: None}))


@CATALOGUE.refused_as("metric_impossible")
def _impossible_value(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(metrics={scene.metric: 500.0}))
