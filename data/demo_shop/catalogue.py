# ruff: noqa: E501, the catalogue is a table with one line for each category
"""What the generated shop sells: leaf categories, brands, attributes, and the words people use for them.

``query_nouns`` and the phrases behind ``~`` are how people ask; they do not stand in the titles of their category, so
that only clicks can teach them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """A property of an item."""

    title: str
    """As titles say it."""
    chinese: str
    phrases: tuple[str, ...]
    """As only queries say it; a phrase that starts with "for" or "with" follows the noun."""


@dataclass(frozen=True)
class Leaf:
    """One leaf category."""

    department: str
    name: str
    nouns: tuple[str, ...]
    """What titles call it, and queries too."""
    query_nouns: tuple[str, ...]
    """What only queries call it."""
    chinese: str
    brands: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    sizes: tuple[str, ...]
    price: float
    """Median price."""
    tilt: float
    """Taste by gender: above 0 women look for it more often, below 0 men."""
    age: float
    """Taste by age: -1 the young, 1 the old."""


_BRANDS = {
    "phone": "Apple Huawei Samsung Xiaomi Nokia BlackBerry Lumo Tanaro Veltra",
    "computer": "Apple Huawei Lenovo Dell Asus Nordbit Quanta Lumo",
    "audio": "Apple Sony Bose Sennfeld Xiaomi Klangwerk Aurelo",
    "camera": "Sony Canon Nikon Fotonik Veltra Orion",
    "home": "Philips Midea Haier Brunnen Dyssel Homera Castello",
    "baby": "Aptal Friso Babyjoy Nutrilo Mamalove Lilkin Goodstart",
    "sport": "Nike Adidas Asics Puma Stratos Runova Kestrel",
    "wear": "Zarina Uniqa Hanell Marlowe Polo Velours Northway",
    "beauty": "Nivea Lancelle Shiseo Dovelle Aurea Petalia Herbina",
    "food": "Dole Sunfarm Orchard Greenfield Valley Harvest",
    "snack": "Galaxy Lindor Nutty Crispo Sweetie Orchard Valley",
    "drink": "Twinings Lipta Nescafe Javano Tealeaf Mate",
    "pet": "Pedigo Whisko Pawsome Felina Barko Petalia",
    "tool": "Bosch Makito Stanlo Ironclad Brunnen Kraftor",
    "toy": "Lego Playmo Hasbo Kiddo Lilkin Woodly",
    "book": "Pengu Harbor Oxbridge Lantern Redleaf Scholar",
}

# department; leaf; title nouns; query nouns; Chinese; brands; attributes "title=Chinese~query phrase/..."; sizes;
# median price; tilt; age
_LEAVES = """
electronics; Mobile Phones; smartphone|mobile phone; cellphone|handset; 手机; phone; senior=老人~for grandpa/for elderly parents/with huge keys, 5G=5G~fastest network, gaming=游戏~for esports, rugged=三防~unbreakable, dual SIM=双卡~two numbers; 64GB|128GB|256GB|512GB; 420; -0.2; -0.1
electronics; Tablets; tablet; slate computer|touch pad|pad; 平板电脑; computer; drawing=绘画~for artists, kids=儿童~for my son, LTE=全网通~with cellular; 64GB|128GB|256GB; 380; 0; 0.1
electronics; Laptops; laptop|notebook computer; portable pc; 笔记本电脑; computer; gaming=游戏~for esports, ultralight=轻薄~easy to carry, business=商务~for the office, touchscreen=触屏~with finger input; 8GB|16GB|32GB; 900; -0.3; -0.2
electronics; Monitors; monitor; computer screen|display panel; 显示器; computer; curved=曲面~wraparound, 4K=4K~ultra sharp, portable=便携~for travel; 24 inch|27 inch|32 inch; 260; -0.5; -0.2
electronics; Computer Mice; mouse; pointing device|clicker; 鼠标; computer; wireless=无线~cordless, ergonomic=人体工学~for wrist pain, silent=静音~noiseless; 800 dpi|1600 dpi|3200 dpi; 28; -0.3; -0.3
electronics; Keyboards; keyboard; typing board; 键盘; computer; mechanical=机械~clicky, wireless=无线~cordless, backlit=背光~glowing; 68 keys|87 keys|104 keys; 60; -0.4; -0.4
electronics; Headphones; headphones|earphones; headset|earbuds|pods; 耳机; audio; wireless=无线~cordless, noise cancelling=降噪~for quiet flights, sport=运动~sweatproof; 10 h|24 h|40 h; 110; -0.1; -0.4
electronics; Speakers; speaker; boombox|sound box; 音箱; audio; bluetooth=蓝牙~cordless, waterproof=防水~for the shower, smart=智能~voice assistant; 5W|20W|60W; 80; -0.2; -0.1
electronics; Cameras; camera; photo device|snapper; 相机; camera; mirrorless=微单~for professionals, instant=拍立得~prints at once, action=运动~for divers; 12MP|24MP|45MP; 520; 0; 0.2
electronics; Power Banks; power bank; portable charger|spare battery; 充电宝; phone; slim=超薄~fits in pocket, fast charging=快充~rapid, solar=太阳能~for camping; 5000mAh|10000mAh|20000mAh; 30; 0; -0.3
home; Vacuum Cleaners; vacuum cleaner; hoover|dust sucker; 吸尘器; home; robot=机器人~that runs itself, cordless=无线~without cable, pet hair=宠物毛发~for cat owners; 0.5L|1L|2L; 210; 0.2; 0.3
home; Rice Cookers; rice cooker; rice maker|rice pot; 电饭煲; home; induction=IH~quick heating, mini=迷你~for one person, low sugar=低糖~for diabetics; 2L|3L|5L; 85; 0.4; 0.4
home; Kettles; kettle; water boiler; 电水壶; home; glass=玻璃~see through, gooseneck=鹅颈~for pour over, insulated=保温~keeps hot; 1L|1.5L|2L; 35; 0.3; 0.4
home; Air Purifiers; air purifier; air cleaner|smog filter; 空气净化器; home; HEPA=HEPA~for allergies, quiet=静音~for bedrooms, humidifying=加湿~for dry air; 20 m2|40 m2|60 m2; 170; 0.2; 0.3
home; Desk Lamps; desk lamp; reading light|study light; 台灯; home; LED=LED~low power, dimmable=调光~adjustable, eye care=护眼~for students; 5W|9W|12W; 32; 0.1; 0
home; Bed Sheets; bed sheet set|bedding set; bedclothes; 床上用品; wear; cotton=纯棉~natural, silk=真丝~luxury, striped=条纹~with lines; single|queen|king; 55; 0.7; 0.3
home; Power Drills; power drill|drill; hole maker; 电钻; tool; cordless=无线~battery powered, hammer=冲击~for concrete, compact=小型~for beginners; 12V|18V|24V; 95; -0.9; 0.4
home; Screwdrivers; screwdriver set; screw turner; 螺丝刀; tool; magnetic=磁性~holds screws, precision=精密~for watches, insulated=绝缘~for electricians; 6 pieces|24 pieces|64 pieces; 22; -0.8; 0.3
baby; Milk Powder; milk powder|infant formula; baby milk; 奶粉; baby; stage 1=1段~newborn, stage 2=2段~half year, stage 3=3段~toddler, stage 4=4段~big kid/preschooler, goat=羊奶~easy to digest; 400g|800g|900g; 38; 0.8; -0.2
baby; Diapers; diapers; nappies|baby pants; 纸尿裤; baby; newborn=新生儿~first weeks, overnight=夜用~sleep through, pull up=拉拉裤~for walkers; 30 pieces|60 pieces|90 pieces; 27; 0.8; -0.2
baby; Strollers; stroller; pushchair|baby buggy; 婴儿推车; baby; foldable=折叠~for planes, twin=双人~for two babies, lightweight=轻便~easy to lift; 6kg|9kg|12kg; 180; 0.6; -0.2
baby; Baby Bottles; baby bottle; feeding flask; 奶瓶; baby; glass=玻璃~without plastic, anti colic=防胀气~for tummy ache, wide neck=宽口~easy to clean; 120ml|240ml|330ml; 14; 0.8; -0.2
sports; Running Shoes; running shoes; joggers|trainers; 跑步鞋; sport; cushioned=缓震~for bad knees, trail=越野~for mountains, lightweight=轻便~for races; 38|40|42|44; 92; -0.1; -0.4
sports; Basketball Shoes; basketball shoes; hoop sneakers; 篮球鞋; sport; high top=高帮~ankle support, outdoor=户外~for streetball, cushioned=缓震~for jumpers; 40|42|44|46; 105; -0.7; -0.7
sports; Yoga Mats; yoga mat; pilates pad|stretching rug|pad; 瑜伽垫; sport; thick=加厚~for sore knees, nonslip=防滑~with grip, cork=软木~eco friendly; 4mm|6mm|10mm; 29; 0.8; -0.1
sports; Tents; tent; camping shelter; 帐篷; sport; pop up=速开~instant, family=家庭~for five people, winter=冬季~for snow; 2 person|4 person|6 person; 120; -0.3; 0
sports; Bicycles; bicycle|bike; two wheeler; 自行车; sport; folding=折叠~for commuters, mountain=山地~offroad, road=公路~for racing; 20 inch|26 inch|28 inch; 340; -0.4; -0.1
fashion; Dresses; dress; gown|frock; 连衣裙; wear; summer=夏季~for hot days, floral=碎花~with flowers, evening=晚礼~for a wedding; S|M|L|XL; 62; 0.95; -0.2
fashion; Shirts; shirt|polo shirt; button down|top for men; 衬衫; wear; linen=亚麻~breathable, slim fit=修身~tight, denim=牛仔~jeans fabric; S|M|L|XL; 44; -0.7; 0
fashion; Jackets; jacket; coat|windbreaker; 夹克; wear; down=羽绒~very warm, leather=皮~biker, waterproof=防水~for rain; S|M|L|XL; 130; -0.1; 0
fashion; Handbags; handbag; purse|tote|bags; 手提包; wear; leather=皮~cowhide, mini=迷你~tiny, canvas=帆布~cloth; small|medium|large; 115; 0.95; 0.1
beauty; Face Creams; face cream|moisturizer; skin lotion; 面霜; beauty; anti aging=抗衰老~for wrinkles, sensitive=敏感肌~for red skin, whitening=美白~brightening; 30ml|50ml|100ml; 36; 0.9; 0.4
beauty; Lipsticks; lipstick; lip color|lip paint; 口红; beauty; matte=哑光~without shine, moisturizing=滋润~for dry lips, long lasting=持久~kiss proof; 2g|3g|4g; 22; 0.95; -0.4
beauty; Shampoos; shampoo; hair wash; 洗发水; beauty; anti dandruff=去屑~for flakes, volumizing=丰盈~for thin hair, organic=有机~without chemicals; 200ml|400ml|750ml; 13; 0.5; 0
food; Apples; apple|apples; red fruit; 苹果; food; organic=有机~pesticide free, green=青~sour, gift box=礼盒~for visiting; 1kg|2kg|5kg; 8; 0.2; 0.4
food; Oranges; orange|oranges; citrus fruit; 橙子; food; organic=有机~pesticide free, juicing=榨汁~for juice, seedless=无籽~without pips; 1kg|2kg|5kg; 7; 0.2; 0.4
food; Blackberries; blackberry|blackberries; dark fruit; 黑莓; food; frozen=冷冻~for smoothies, organic=有机~pesticide free, dried=干~for muesli; 125g|250g|500g; 6; 0.3; 0.2
food; Chocolate; chocolate; candy bar|cocoa treat; 巧克力; snack; dark=黑~bitter, milk=牛奶~creamy, sugar free=无糖~for diabetics, gift box=礼盒~for valentine; 100g|200g|400g; 9; 0.4; -0.2
food; Nuts; mixed nuts|nuts; trail mix; 坚果; snack; roasted=烤~crunchy, salted=盐焗~savoury, unsalted=原味~natural; 200g|500g|1kg; 12; 0; 0.2
food; Tea; tea; brew leaves|bags; 茶叶; drink; green=绿~matcha style, black=红~english breakfast, herbal=花草~for sleeping; 50g|100g|250g; 11; 0.2; 0.6
food; Coffee; coffee beans|coffee; espresso fuel|pods; 咖啡; drink; ground=研磨~for filter machines, decaf=低因~for the evening, dark roast=深烘~strong; 250g|500g|1kg; 15; -0.1; 0
pets; Dog Food; dog food; puppy chow|kibble; 狗粮; pet; grain free=无谷~for itchy dogs, puppy=幼犬~for young dogs, senior=老年~for old dogs; 2kg|5kg|12kg; 40; 0; 0.2
pets; Cat Toys; cat toy|toy mouse; kitten plaything|mouse; 猫玩具; pet; feather=羽毛~with plumes, electric=电动~moving by itself, catnip=猫薄荷~with herbs; 1 piece|3 pieces|10 pieces; 9; 0.5; -0.1
toys; Building Blocks; building blocks|building bricks; construction kit; 积木; toy; wooden=木~natural material, magnetic=磁力~that stick together, space=太空~with rockets; 60 pieces|250 pieces|1000 pieces; 42; -0.1; -0.1
toys; Dolls; doll; girl figure; 娃娃; toy; talking=会说话~with voice, baby=婴儿~to feed, fashion=时尚~to dress up; 20cm|30cm|45cm; 26; 0.6; -0.1
books; Cookbooks; cookbook; recipe collection; 菜谱; book; vegetarian=素食~without meat, baking=烘焙~for cakes, chinese=中式~wok dishes; paperback|hardcover; 24; 0.5; 0.3
books; Dictionaries; dictionary; word list; 词典; book; english=英语~for learners, chinese=汉语~with characters, pocket=袖珍~for travellers; paperback|hardcover; 30; 0; 0.2
""".strip()

CHINESE_BRANDS = {
    "Apple": "苹果",
    "Huawei": "华为",
    "Samsung": "三星",
    "Xiaomi": "小米",
    "Lenovo": "联想",
    "Nike": "耐克",
}


def _attribute(text: str) -> Attribute:
    words, phrases = text.strip().split("~")
    title, chinese = words.split("=")
    return Attribute(title, chinese, tuple(phrases.split("/")))


def _leaf(line: str) -> Leaf:
    cells = [cell.strip() for cell in line.split(";")]
    department, name, nouns, query_nouns, chinese, brands, attributes, sizes, price, tilt, age = cells
    return Leaf(
        department=department,
        name=name,
        nouns=tuple(nouns.split("|")),
        query_nouns=tuple(query_nouns.split("|")),
        chinese=chinese,
        brands=tuple(_BRANDS[brands].split()),
        attributes=tuple(_attribute(text) for text in attributes.split(",")),
        sizes=tuple(sizes.split("|")),
        price=float(price),
        tilt=float(tilt),
        age=float(age),
    )


LEAVES = tuple(_leaf(line) for line in _LEAVES.splitlines())
BRANDS = tuple(sorted({brand for leaf in LEAVES for brand in leaf.brands}))
LARGEST_MODEL = 99
_SERIES = {"Samsung": "Galaxy", "Huawei": "Mate", "Xiaomi": "Redmi", "Apple": "Pro", "Lenovo": "Think"}


def model_name(brand: int, model: int) -> str:
    """What the maker calls a model, without the brand.

    Args:
        brand: place in ``BRANDS``.
        model: number of the model.
    """
    return f"{_SERIES.get(BRANDS[brand], BRANDS[brand][0] + 'X')} {model}"
