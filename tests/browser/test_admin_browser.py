"""The admin in a real browser: encrypted fields are used as plain ones are, and the database holds ciphertext."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.testapp.models import Club, Member, Organization, Patient

SSN, NEW_SSN = "078-05-1120", "219-09-9999"


class Admin:
    """What a person does there."""

    def __init__(self, browser, url):
        self.browser = browser
        self.url = url

    def go(self, path) -> None:
        self.browser.get(f"{self.url}/admin/{path}")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return [element.text for element in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def type(self, name, text) -> None:
        box = self.find(f"[name={name}]")
        box.clear()
        box.send_keys(text)

    def value(self, name):
        return self.find(f"[name={name}]").get_property("value")

    def follow(self, selector) -> None:
        """Click, and wait for the next page."""
        page = self.find("html")
        self.find(selector).click()
        WebDriverWait(self.browser, 20).until(staleness_of(page))

    def save(self) -> None:
        self.follow("input[name=_save]")

    def log_in(self) -> None:
        self.go("")
        self.type("username", "staff")
        self.type("password", "correct horse")
        self.follow("input[type=submit]")
        assert self.texts("#site-name") == ["Django administration"]


@pytest.fixture
def organization(transactional_db):
    return Organization.objects.create(workos_id="org_acme")


@pytest.fixture
def patient(organization):
    return Patient.objects.create(organization=organization, name="Ada", ssn=SSN, history={"pain": [3, 0, None]})


@pytest.fixture
def admin(browser, live_server, transactional_db):
    User.objects.create_superuser("staff", password="correct horse")
    browser.delete_all_cookies()
    admin = Admin(browser, live_server.url)
    admin.log_in()
    return admin


def row():
    """The one row, past the ORM."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ssn, notes, history, ssn_keys FROM testapp_patient")
        ((*values, keys),) = cursor.fetchall()
    return values, keys


def ssn_and_keys():
    (ssn, *_), keys = row()
    return ssn, keys


def assert_encrypted(value, *secrets) -> None:
    assert value.startswith("$vf$1$")
    assert not any(secret in value for secret in secrets)


def test_the_list_shows_plaintext(admin, patient) -> None:
    admin.go("testapp/patient/")
    assert admin.texts("td.field-ssn") == [SSN]
    assert admin.texts("td.field-notes") == ["-"]
    assert admin.texts("td.field-history") == ['{"pain": [3, 0, null]}']
    assert_encrypted(row()[0][0], SSN)


def test_headers_sort_where_sorting_works(admin, patient, organization) -> None:
    Patient.objects.create(organization=organization, name="Bo", ssn=NEW_SSN)
    admin.go("testapp/patient/")
    assert admin.texts("th.column-ssn a") == []
    admin.follow("th.column-name a")
    assert admin.texts("td.field-name") == ["Ada", "Bo"]
    admin.find("th.column-ssn").click()
    assert admin.texts("td.field-ssn") == [SSN, NEW_SSN]
    admin.go("testapp/patient/?o=3")
    assert admin.texts("td.field-ssn") == [NEW_SSN, SSN]


def test_a_value_is_edited(admin, patient) -> None:
    (before, *_), keys = row()
    admin.go(f"testapp/patient/{patient.pk}/change/")
    assert admin.value("ssn") == SSN
    admin.type("ssn", NEW_SSN)
    admin.save()
    assert "was changed successfully" in admin.find("li.success").text
    assert admin.texts("td.field-ssn") == [NEW_SSN]
    (value, *_), keys_after = row()
    assert_encrypted(value, SSN, NEW_SSN)
    assert value != before
    assert keys_after == keys


def test_a_row_is_added(admin, organization) -> None:
    admin.go("testapp/patient/add/")
    Select(admin.find("[name=organization]")).select_by_visible_text("org_acme")
    admin.type("name", "Ada")
    admin.type("ssn", SSN)
    admin.type("notes", "two lines,\nwith <b>é 医</b>")
    admin.save()
    assert "was added successfully" in admin.find("li.success").text
    patient = Patient.objects.get()
    assert (patient.ssn, patient.notes, patient.history) == (SSN, "two lines,\r\nwith <b>é 医</b>", {})
    values, _ = row()
    for value in values:
        assert_encrypted(value, SSN, "two lines")


def test_an_emptied_value_is_empty_and_an_emptied_json_is_null(admin, patient) -> None:
    admin.go(f"testapp/patient/{patient.pk}/change/")
    admin.type("ssn", "")
    admin.type("history", "")
    admin.save()
    assert "was changed successfully" in admin.find("li.success").text
    patient = Patient.objects.get()
    assert (patient.ssn, patient.history) == ("", None)
    (ssn, _, history), _ = row()
    assert_encrypted(ssn)  # An empty string is a value, and does not show.
    assert history is None


def test_json_is_edited_and_what_is_not_json_is_refused(admin, patient) -> None:
    (*_, before), _ = row()
    admin.go(f"testapp/patient/{patient.pk}/change/")
    admin.type("history", '{"pain": ')
    admin.save()
    assert admin.texts("ul.errorlist li") == ["Enter a valid JSON."]
    assert admin.value("history") == '{"pain": '
    assert row()[0][2] == before
    admin.type("history", '{"pain": [], "é": true}')
    admin.save()
    assert Patient.objects.get().history == {"pain": [], "é": True}
    assert_encrypted(row()[0][2], "pain")


def test_a_value_that_does_not_open_is_told_and_replaced_on_purpose(admin, patient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_patient SET ssn = SUBSTR(ssn, 1, 60)")
    before = ssn_and_keys()
    admin.go("testapp/patient/")
    assert admin.texts("td.field-ssn em") == ["Cannot be opened: it is damaged."]
    assert admin.texts("td.field-history") == ['{"pain": [3, 0, null]}']
    admin.go(f"testapp/patient/{patient.pk}/change/")
    assert admin.texts(".field-ssn em") == ["Cannot be opened: it is damaged."]
    assert not admin.find("[name=ssn]").is_displayed()
    admin.type("name", "Grace")
    admin.save()
    assert "was changed successfully" in admin.find("li.success").text
    assert admin.texts("td.field-name") == ["Grace"]
    assert ssn_and_keys() == before
    admin.go(f"testapp/patient/{patient.pk}/change/")
    admin.find(".field-ssn summary").click()
    admin.type("ssn", NEW_SSN)
    admin.save()
    assert "tick the box" in admin.find(".field-ssn ul.errorlist li").text
    assert ssn_and_keys() == before
    admin.find(".field-ssn summary").click()
    admin.find("[name=ssn-replace]").click()
    admin.type("ssn", NEW_SSN)
    admin.save()
    assert "was changed successfully" in admin.find("li.success").text
    assert admin.texts("td.field-ssn") == [NEW_SSN]
    assert_encrypted(row()[0][0], NEW_SSN)


def test_history_and_deletion_show_no_values(admin, patient) -> None:
    admin.go(f"testapp/patient/{patient.pk}/change/")
    admin.type("ssn", NEW_SSN)
    admin.save()
    admin.go(f"testapp/patient/{patient.pk}/history/")
    assert admin.texts("#change-history td")[-1] == "Changed Ssn."
    admin.go(f"testapp/patient/{patient.pk}/delete/")
    assert NEW_SSN not in admin.browser.page_source
    admin.follow("input[type=submit][value^=Yes]")
    assert not Patient.objects.exists()


def test_a_row_is_searched_by_value_after_its_tenant_is_chosen(admin) -> None:
    chess, go = (Club.objects.create(name=name) for name in ("chess", "go"))
    Member.objects.create(club=chess, name="Ada", ssn=SSN)
    Member.objects.create(club=go, name="Bo", ssn=SSN)

    def search(text) -> list[str]:
        admin.type("q", text)
        admin.follow("#changelist-search input[type=submit]")
        return admin.texts("#result_list .field-name")

    admin.go("testapp/member/")
    assert search(SSN) == []
    assert admin.texts(".messagelist li") == [
        "Nothing was searched: values are found within one club at a time. Choose one first."
    ]
    admin.go(f"testapp/member/?club__id__exact={go.pk}")
    assert search(SSN) == ["Bo"]
    assert admin.texts(".messagelist li") == []
    assert search(NEW_SSN) == []
