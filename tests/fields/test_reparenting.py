"""Rows that are given to another parent in the same key context still open; those in another one do not."""

import pytest
from django.db import connection

from tests.testapp.models import Document, Organization, Reply, Thread
from vault_fields.exceptions import KeyContextMismatch
from vault_fields.fields.groups import group_of
from vault_fields.rows.rekey import rekey_group
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls

GROUP = group_of(Reply._meta.get_field("text"))


@pytest.fixture
def threads(organization, other_organization):
    """Two threads of one organization and one of another, with two replies in the first."""
    made = [Thread.objects.create(organization=each) for each in (organization, organization, other_organization)]
    for number in range(2):
        Reply.objects.create(thread=made[0], text=f"reply {number}")
    return made


READS = {
    "instances": lambda: [reply.text for reply in Reply.objects.order_by("pk")],
    "values_list": lambda: list(Reply.objects.order_by("pk").values_list("text", flat=True)),
    "only": lambda: [reply.text for reply in Reply.objects.only("text").order_by("pk")],
    "defer": lambda: [reply.text for reply in Reply.objects.defer("text").order_by("pk")],
    "raw": lambda: [reply.text for reply in Reply.objects.raw("SELECT * FROM testapp_reply ORDER BY id")],
    "raw, one column": lambda: [
        reply.text for reply in Reply.objects.raw("SELECT id, text FROM testapp_reply ORDER BY id")
    ],
    "related": lambda: [
        reply.text for thread in Thread.objects.prefetch_related("replies") for reply in thread.replies.order_by("pk")
    ],
    "iterator": lambda: [reply.text for reply in Reply.objects.order_by("pk").iterator()],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_another_parent_of_the_same_context_opens(threads, read) -> None:
    threads[0].replies.update(thread=threads[1])
    assert read() == ["reply 0", "reply 1"]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_another_parent_of_another_context_does_not_open(threads, read) -> None:
    _move_by_sql(threads[2])
    with pytest.raises(KeyContextMismatch, match="thread_id of the row differs from that of the value"):
        read()


def test_all_rows_of_a_query_ask_once(threads, django_assert_num_queries) -> None:
    _move_by_sql(threads[1])
    replies = list(Reply.objects.all())
    with django_assert_num_queries(1):
        assert [reply.text for reply in replies] == ["reply 0", "reply 1"]
    with django_assert_num_queries(2):
        assert list(Reply.objects.values_list("text", flat=True)) == ["reply 0", "reply 1"]


def test_a_row_that_was_not_moved_asks_nothing(threads, django_assert_num_queries) -> None:
    with django_assert_num_queries(1):
        assert [reply.text for reply in Reply.objects.all()] == ["reply 0", "reply 1"]


def test_a_parent_that_is_gone_opens_nothing(threads, execute) -> None:
    replies = list(Reply.objects.all())
    for reply in replies:
        reply.__dict__["text"].values = (999,)
    with pytest.raises(KeyContextMismatch):
        replies[0].text  # noqa: B018


def test_saving_brings_the_row_up_to_date(threads, stored) -> None:
    _move_by_sql(threads[1])
    reply = Reply.objects.order_by("pk")[0]
    reply.save()
    assert companion.decode(stored(reply, "text_keys")[0]).row == {"organization_id": str(threads[1].pk)}
    assert READS["instances"]() == ["reply 0", "reply 1"]


def test_rekeying_brings_rows_up_to_date_without_being_told_that_they_were_moved(threads, stored) -> None:
    _move_by_sql(threads[1])
    report = rekey_group(GROUP, on_problem=pytest.fail)
    assert (report.reencrypted, report.moved) == (2, 0)
    reply = Reply.objects.first()
    assert companion.decode(stored(reply, "text_keys")[0]).row == {"organization_id": str(threads[1].pk)}
    _move_by_sql(threads[2])
    problems = []
    report = rekey_group(GROUP, on_problem=problems.append)
    assert (report.reencrypted, report.moved) == (0, 2)
    assert all("thread_id of the row differs" in problem for problem in problems)


def test_a_changed_row_behind_the_relation_is_not_taken_for_a_move(organization) -> None:
    document = Document.objects.create(organization=organization, body="text")
    Organization.objects.update(workos_id="org_new")
    with assert_vault_calls(decrypt=1, cold=True):
        assert Document.objects.get(pk=document.pk).body == "text"


def _move_by_sql(thread) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reply SET thread_id = %s", [thread.pk])
