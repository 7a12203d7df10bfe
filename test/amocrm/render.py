"""The shapes of amoCRM's answers: one function an entity, from its shown state to the JSON object of the reference."""

from typing import Any, Collection

import school
from world import Shown, Thing
from worktime import midnight

HOST = f"https://{school.SUBDOMAIN}.amocrm.ru"
FIELD_BY_ID = {field.id: field for field in school.FIELDS.values()}
GROUP_OF = {user.id: user.group_id for user in school.USERS}

#: what amoCRM stores for names that a strict parser stumbles over (only with --raw-oddities)
RAW_NAMES = {0: "Заявка\u0000с нулём", 1: "Половина смайлика \ud83d", 2: "\ufeffBOM и \u202eперевёртыш"}


def _self(path: str) -> dict:
    return {"self": {"href": f"{HOST}/api/v4/{path}"}}


def field_value(field_id: int, value: Any) -> dict:
    field = FIELD_BY_ID[field_id]
    if field.type == "checkbox":
        values = [{"value": True}]
    elif field.type == "select":
        values = [{"value": value, "enum_id": field.enum(value), "enum_code": None}]
    elif field.type == "multiselect":
        values = [{"value": value, "enum_id": field.enum(value), "enum_code": None},
                  {"value": "Онлайн-теория", "enum_id": field.enum("Онлайн-теория"), "enum_code": None}]
    elif field.type == "date":
        values = [{"value": midnight(value)}]
    elif field.type == "hologram":
        values = [{"beam": {"of": value}, "phases": [1, 2.5, None]}]
    else:
        values = [{"value": value}]
    return {"field_id": field.id, "field_name": field.name, "field_code": "UTM_SOURCE" if field.type == "tracking_data" else None,
            "field_type": field.type, "values": values}


def lead(thing: Thing, shown: Shown, with_: Collection[str] = (), raw: bool = False) -> dict:
    at = thing.shown
    if at["deleted"]:
        return {"id": thing.id, "name": None, "price": None, "responsible_user_id": None, "group_id": None, "status_id": None,
                "pipeline_id": None, "loss_reason_id": None, "created_by": None, "updated_by": at["updated_by"],
                "created_at": None, "updated_at": at["updated_at"], "closed_at": None, "closest_task_at": None,
                "is_deleted": True, "custom_fields_values": None, "score": None, "account_id": school.ACCOUNT_ID,
                "_links": _self(f"leads/{thing.id}"), "_embedded": {"tags": [], "companies": []}}
    dues = [task.shown["due"] for task in shown.tasks_of.get(thing, ()) if not task.shown["done"]]
    embedded: dict[str, Any] = {"tags": [{"id": id_, "name": name, "color": None} for id_, name in at["tags"]], "companies": []}
    number = thing.id - 9_100_000 >> 1
    result = {
        "id": thing.id, "name": RAW_NAMES.get(number % 97, thing.fixed["name"]) if raw else thing.fixed["name"],
        "price": thing.fixed["price"], "responsible_user_id": at["responsible"], "group_id": GROUP_OF[at["responsible"]],
        "status_id": at["status"], "pipeline_id": at["pipeline"],
        "loss_reason_id": at["loss_reason"] and at["loss_reason"][0],
        "created_by": at["created_by"], "updated_by": at["updated_by"], "created_at": at["created_at"],
        "updated_at": at["updated_at"], "closed_at": at["closed_at"] or (0 if number % 11 == 3 else None),
        "closest_task_at": min(dues, default=None), "is_deleted": False,
        "custom_fields_values": [field_value(id_, value) for id_, value in sorted(at["fields"].items())] or None,
        "score": None, "account_id": school.ACCOUNT_ID, "labor_cost": None, "_links": _self(f"leads/{thing.id}"),
        "_embedded": embedded}
    if number % 3 == 0 and thing.fixed["price"]:
        result["price_with_minor_units"] = thing.fixed["price"] + .5
    if "contacts" in with_:
        main = thing.fixed["contact"].id
        embedded["contacts"] = [{"id": main, "is_main": True, "_links": _self(f"contacts/{main}")}]
    if "loss_reason" in with_:
        embedded["loss_reason"] = [loss_reason(*at["loss_reason"])] if at["loss_reason"] else []
    if "source_id" in with_:
        result["source_id"] = at["source"]
    if "source" in with_ and at["source"]:
        embedded["source"] = {"id": at["source"], "name": dict(school.SOURCES)[at["source"]]}
    if "is_price_modified_by_robot" in with_:
        result["is_price_modified_by_robot"] = False
    return result


def contact(thing: Thing, shown: Shown, with_: Collection[str] = ()) -> dict:
    at = thing.shown
    name = thing.fixed["name"]
    first, _, last = name.partition(" ")
    embedded: dict[str, Any] = {"tags": [], "companies": []}
    if "leads" in with_:
        embedded["leads"] = [{"id": lead.id, "_links": _self(f"leads/{lead.id}")} for lead in shown.leads_of.get(thing, ())
                             if not lead.shown["deleted"]]
    return {"id": thing.id, "name": name, "first_name": first, "last_name": last, "responsible_user_id": at["responsible"],
            "group_id": GROUP_OF[at["responsible"]], "created_by": at["created_by"], "updated_by": at["created_by"],
            "created_at": at["created_at"], "updated_at": at["updated_at"], "closest_task_at": None, "is_deleted": False,
            "is_unsorted": False, "custom_fields_values": [
                {"field_id": school.PHONE.id, "field_name": school.PHONE.name, "field_code": "PHONE", "field_type": "multitext",
                 "values": [{"value": thing.fixed["phone"], "enum_id": school.PHONE.enums[0][0], "enum_code": "WORK"}]}],
            "account_id": school.ACCOUNT_ID, "_links": _self(f"contacts/{thing.id}"), "_embedded": embedded}


def task(thing: Thing) -> dict:
    at = thing.shown
    return {"id": thing.id, "created_by": thing.fixed["by"], "updated_by": at["updated_by"], "created_at": thing.fixed["at"],
            "updated_at": at["updated_at"], "responsible_user_id": at["responsible"], "group_id": GROUP_OF[at["responsible"]],
            "entity_id": thing.fixed["lead"].id, "entity_type": "leads", "is_completed": at["done"],
            "task_type_id": thing.fixed["type"], "text": at["text"], "duration": 0, "complete_till": at["due"],
            "result": at["result"] if at["done"] else None if thing.id % 4 else [], "account_id": school.ACCOUNT_ID,
            "_links": _self(f"tasks/{thing.id}")}


def note(thing: Thing) -> dict:
    fixed = thing.fixed
    return {"id": thing.id, "entity_id": fixed["of"].id, "created_by": fixed["by"], "updated_by": fixed["by"],
            "created_at": fixed["at"], "updated_at": thing.shown["updated_at"], "responsible_user_id": fixed["responsible"],
            "group_id": GROUP_OF[fixed["responsible"]], "note_type": fixed["type"], "params": fixed["params"],
            "is_editable": fixed["type"] == "common", "account_id": school.ACCOUNT_ID,
            "_links": _self(f"{PLURAL[fixed['of'].kind]}/{fixed['of'].id}/notes/{thing.id}")}


PLURAL = {"lead": "leads", "contact": "contacts", "company": "companies", "task": "tasks"}


def _resolved(value: Any) -> Any:
    """Things inside an event become what the event shows of them."""
    if isinstance(value, Thing):
        return {"id": value.id} if value.kind == "note" else value.id
    if isinstance(value, dict):
        return {key: _resolved(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(inner) for inner in value]
    return value


def event(thing: Thing, with_: Collection[str] = ()) -> dict:
    fixed = thing.fixed
    of = fixed["of"]
    entity: dict[str, Any] = {"id": of.id, "_links": _self(f"{PLURAL[of.kind]}/{of.id}")}
    if "lead_name" in with_ and of.kind == "lead":
        entity["name"] = of.fixed["name"]
    if fixed["type"].endswith("_chat_message"):
        entity["linked_talk_contact_id"] = of.fixed["contact"].id
    return {"id": thing.id, "type": fixed["type"], "entity_id": of.id, "entity_type": of.kind, "created_by": fixed["by"],
            "created_at": fixed["at"], "value_after": _resolved(fixed["after"]), "value_before": _resolved(fixed["before"]),
            "account_id": school.ACCOUNT_ID, "_links": _self(f"events/{thing.id}"), "_embedded": {"entity": entity}}


def talk(thing: Thing) -> dict:
    fixed = thing.fixed
    return {"talk_id": thing.id, "created_at": fixed["at"], "updated_at": thing.shown["updated_at"], "rate": 0,
            "contact_id": fixed["contact"].id, "chat_id": fixed["chat"], "entity_id": fixed["lead"].id, "entity_type": "lead",
            "status": "in_work", "is_in_work": True, "is_read": True, "origin": fixed["origin"], "source_id": 77003,
            "missed_at": None, "account_id": school.ACCOUNT_ID, "_links": _self(f"talks/{thing.id}")}


# ------------------------------------------------------------------------------------ dictionaries

def loss_reason(id_: int, name: str) -> dict:
    return {"id": id_, "name": name, "sort": 100000, "created_at": school.FOUNDED, "updated_at": school.FOUNDED,
            "_links": _self(f"leads/loss_reasons/{id_}")}


def user(person: school.User, with_: Collection[str] = ()) -> dict:
    letter = "A" if person.admin else "M"
    result = {"id": person.id, "name": person.name, "email": f"u{person.id}@{school.SUBDOMAIN}.example", "lang": "ru",
              "rights": {"leads": {"view": "A", "edit": letter, "add": "A", "delete": "A" if person.admin else "D", "export": "D"},
                         "contacts": {"view": "A", "edit": letter, "add": "A", "delete": "D", "export": "D"}, "companies": [],
                         "tasks": {"edit": letter, "delete": "D"}, "mail_access": False, "catalog_access": False,
                         "is_admin": person.admin, "is_free": False, "is_active": True, "group_id": person.group_id or None,
                         "role_id": None, "status_rights": []},
              "_links": _self(f"users/{person.id}")}
    if "group" in with_ or "role" in with_:
        result["_embedded"] = {"roles": [], "groups": [{"id": person.group_id, "name": school.GROUPS[person.group_id]}]}
    return result


def pipelines() -> list[dict]:
    result = []
    for sort, (id_, name, statuses) in enumerate(((school.SALES, "Продажи", school.SALES_STATUSES),
                                                  (school.CORPORATE, "Курсы для юрлиц", school.CORPORATE_STATUSES)), 1):
        result.append({"id": id_, "name": name, "sort": sort, "is_main": sort == 1, "is_unsorted_on": True, "is_archive": False,
                       "account_id": school.ACCOUNT_ID, "_links": _self(f"leads/pipelines/{id_}"), "_embedded": {"statuses": [
                           {"id": status, "name": title, "sort": {school.WON: 10000, school.LOST: 11000}.get(status, 10 * n),
                            "is_editable": status not in school.CLOSED_STATUSES and not type_, "pipeline_id": id_,
                            "color": "#99ccff", "type": type_, "account_id": school.ACCOUNT_ID,
                            "_links": _self(f"leads/pipelines/{id_}/statuses/{status}")}
                           for n, (status, title, type_) in enumerate(statuses, 1)]}})
    return result


def custom_field(field: school.Field, entity: str = "leads") -> dict:
    return {"id": field.id, "name": field.name, "type": field.type, "account_id": school.ACCOUNT_ID,
            "code": "PHONE" if field is school.PHONE else None, "sort": field.id % 1000, "is_api_only": False,
            "enums": [{"id": id_, "value": value, "sort": n, "code": None} for n, (id_, value) in enumerate(field.enums)] or None,
            "group_id": "general" if field.id % 2 else None, "required_statuses": [], "is_deletable": True,
            "is_predefined": field is school.PHONE, "entity_type": entity, "remind": None, "tracking_callback": None,
            "currency": None, "_links": _self(f"{entity}/custom_fields/{field.id}")}


def account(with_: Collection[str]) -> dict:
    embedded: dict[str, Any] = {}
    if "users_groups" in with_:
        embedded["users_groups"] = [{"id": id_, "name": name, "uuid": None} for id_, name in school.GROUPS.items()]
    if "task_types" in with_:
        embedded["task_types"] = [{"id": id_, "name": name, "color": None, "icon_id": None, "code": code}
                                  for id_, name, code in school.TASK_TYPES]
    if "datetime_settings" in with_:
        embedded["datetime_settings"] = {
            "date_pattern": "d.m.Y H:i", "short_date_pattern": "d.m.Y", "short_time_pattern": "H:i", "date_formant": "d.m.Y",
            "time_format": "H:i:s", "timezone": "Europe/Moscow", "timezone_offset": "+03:00"}
    result = {"id": school.ACCOUNT_ID, "name": "Автошкола «Учебная»", "subdomain": school.SUBDOMAIN, "created_at": school.FOUNDED,
              "created_by": 0, "updated_at": school.FOUNDED, "updated_by": 0, "current_user_id": school.CHIEF.id,
              "country": "RU", "currency": "RUB", "currency_symbol": "₽", "customers_mode": "unavailable",
              "is_unsorted_on": True, "is_loss_reason_enabled": True, "is_helpbot_enabled": False,
              "is_technical_account": False, "contact_name_display_order": 1, "_links": _self("account"),
              "_embedded": embedded or []}
    if "version" in with_:
        result["version"] = 7
    if "is_api_filter_enabled" in with_:
        result["is_api_filter_enabled"] = True
    if "amojo_id" in with_:
        result["amojo_id"] = "a0000000-0000-4000-a000-000000000001"
    if "uuid" in with_:
        result["uuid"] = "b0000000-0000-4000-a000-000000000001"
    if "drive_url" in with_:
        result["drive_url"] = "https://drive-b.amocrm.ru"
    return result
