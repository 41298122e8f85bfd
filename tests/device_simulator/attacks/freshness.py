"""Attacks with messages that are not new."""

from secrets import token_urlsafe

from .scene import Catalogue, Forgery, Scene, without

CATALOGUE = Catalogue()


@CATALOGUE.refused_as("replayed")
def _replay(scene: Scene) -> Forgery:
    first, second = scene.signed(scene.claims()).payload, scene.signed(scene.claims()).payload
    return Forgery(scene.topic, first, prelude=(first, second))


@CATALOGUE.refused_as("duplicate")
def _repeat_of_the_last_message(scene: Scene) -> Forgery:
    last = scene.signed(scene.claims()).payload
    return Forgery(scene.topic, last, prelude=(last,))


@CATALOGUE.refused_as("replayed", needs="captured")
def _replay_of_another_device(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, scene.captured[0])


@CATALOGUE.refused_as("replayed")
def _counter_used_twice(scene: Scene) -> Forgery:
    claims = scene.claims()
    return Forgery(
        scene.topic,
        scene.signed(claims | {"metrics": {scene.metric: 24.5}}).payload,
        prelude=(scene.signed(claims).payload,),
    )


@CATALOGUE.refused_as("session_unknown")
def _session_unknown(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(sid=token_urlsafe(12)))


@CATALOGUE.refused_as("session_required")
def _no_freshness(scene: Scene) -> Forgery:
    return scene.signed(without(scene.claims(), "sid", "seq"))


@CATALOGUE.refused_as("session_required")
def _session_without_counter(scene: Scene) -> Forgery:
    return scene.signed(without(scene.claims(), "seq"))


@CATALOGUE.refused_as("clock_skew")
def _stale_clock(scene: Scene) -> Forgery:
    return scene.signed(without(scene.claims(iat=int(scene.now()) - 3600), "sid", "seq"))


@CATALOGUE.refused_as("clock_skew")
def _clock_of_the_future(scene: Scene) -> Forgery:
    return scene.signed(without(scene.claims(iat=int(scene.now()) + 3600), "sid", "seq"))
